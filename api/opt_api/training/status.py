"""What the operator (and a local run) reports of a training. Every field is optional; counters are ours alone."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from opt_api.base import Model
from opt_api.conditions import Conditions
from opt_api.lists import Unique
from opt_api.types import Digest, LongWhole, Message, ShortText, Subdomain, Text, Whole

Phase = Literal[
    "Pending", "Preparing", "Queued", "Starting", "Running", "Recovering", "Suspended", "Paused",
    "Evaluating", "Succeeded", "Failed", "Deleting",
]  # fmt: skip
Rung = Literal["Restart", "Swap", "Recreate", "Shrink", "Pause"]


class Nodes(Model):
    """Hosts ready out of hosts wanted, as one printable field and as numbers."""

    summary: ShortText = "0/0"
    ready: Whole = 0
    wanted: Whole = 0


class CheckpointStatus(Model):
    """The newest Verified checkpoint."""

    step: LongWhole
    time: datetime
    digest: Digest
    """Digest of its manifest."""


class Intent(Model):
    """A destructive act that was decided and may not yet be carried out; written first."""

    attempt: Whole
    rung: Rung
    reason: ShortText
    message: Message = ""
    time: datetime


class HostStatus(Model):
    """A host that is not simply in use."""

    name: Subdomain
    state: Literal["Candidate", "BurnIn", "Spare", "InUse", "Suspect", "Quarantined", "Retired"]
    hardware: ShortText
    node: ShortText = ""
    """Node on which the operator itself saw a pod of this host; empty for a machine it has only heard of."""
    reason: Text = ""


class OPTTrainingStatus(Model):
    """Observed state."""

    conditions: Conditions = ()
    observed_generation: LongWhole | None = None
    operator_term: LongWhole | None = None
    """Fencing token of the operator that wrote this: an operator with a lower one has been replaced."""
    phase: Phase | None = None
    attempt: Whole = 0
    """Number of the current attempt; ours, never derived from children."""
    restarts: Whole = 0
    step: LongWhole | None = None
    total_steps: LongWhole | None = None
    loss: ShortText | None = None
    """Training loss at `step`, as text: status carries no floating point."""
    tokens_per_second: LongWhole | None = None
    eta_seconds: LongWhole | None = None
    nodes: Nodes | None = None
    spares: Whole | None = None
    checkpoint: CheckpointStatus | None = None
    ettr: ShortText | None = None
    """Productive time over wall time, in percent, as text."""
    plan_digest: Digest | None = None
    dataset: Text | None = None
    """URI of the data set's manifest."""
    dataset_digest: Digest | None = None
    pod_attempt: Whole = 0
    """Number in the names of pods made from now on; raised before a pod is replaced."""
    pod_failures: Annotated[tuple[datetime, ...], Field(max_length=16)] = ()
    """Newest ends of pods that count against the budget."""
    intent: Intent | None = None
    hosts: Annotated[tuple[HostStatus, ...], Field(max_length=128), Unique("name")] = ()
    start_time: datetime | None = None
    completion_time: datetime | None = None
