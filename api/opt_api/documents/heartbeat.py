"""What a worker says of itself, often."""

from __future__ import annotations

from typing import Literal

from opt_api.documents.base import Document
from opt_api.training.resilience import Section
from opt_api.types import LongWhole, NonNegative, Text, Whole


class Heartbeat(Document):
    """One rank's newest state. `monotonic` never goes back within a process; `time` is wall time."""

    kind: Literal["Heartbeat"] = "Heartbeat"
    version: Literal[1] = 1
    run: Text
    attempt: Whole
    rank: Whole
    world_size: Whole
    host: Text
    pid: Whole
    sequence: LongWhole
    """Number of this heartbeat, so that a late one is told from a new one."""
    section: Section
    section_seconds: NonNegative = 0
    """How long the worker has been in this section."""
    done_bytes: LongWhole | None = None
    total_bytes: LongWhole | None = None
    """How far the section has come, where that is known: fetching a checkpoint or shards."""
    step: LongWhole
    """Steps done; the numbers below are those of this step, and absent where it was done before this process began."""
    time: NonNegative
    """Seconds since the epoch."""
    collectives: LongWhole | None = None
    """Collective operations this process has begun: of ranks that wait for each other, the one with the fewest keeps
    the others waiting."""
    loss: float | None = None
    loss_finite: bool = True
    loss_scale: NonNegative | None = None
    gradient_norm: NonNegative | None = None
    parameter_norm: NonNegative | None = None
    own_gradient_norm: NonNegative | None = None
    own_parameter_norm: NonNegative | None = None
    """This rank's own part of both norms, before anything was added up: replicas of a part must have the same."""
    activation_norm: NonNegative | None = None
    """Norm of the last layer's activations."""
    learning_rate: NonNegative | None = None
    tokens_per_second: NonNegative | None = None
    step_seconds: NonNegative | None = None
    compute_seconds: NonNegative | None = None
    """Own compute of the last step, without waiting for peers: tells a straggler from its victims."""
    memory_bytes: LongWhole | None = None
    applied_change: LongWhole | None = None
    """Sequence number of the last live change in force."""
