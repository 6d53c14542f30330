"""What the operator reports of a served model."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from opt_api.base import Model
from opt_api.conditions import Conditions
from opt_api.lists import Unique
from opt_api.types import Digest, LongWhole, Message, Name, ShortText, Text, Whole

ServePhase = Literal["Pending", "Loading", "Serving", "Rolling", "RollingBack", "Asleep", "Failed", "Deleting"]


class ServedCheckpoint(Model):
    """One checkpoint a replica can serve."""

    step: LongWhole | None = None
    digest: Digest | None = None
    """Of its manifest; of all its objects where the source is a URI."""
    uri: Text | None = None
    time: datetime | None = None
    """When it was saved: its age."""
    loss: ShortText | None = None
    """On the gate's held-out sequences, as text: status carries no floating point."""
    revision: Name | None = None
    """Names this checkpoint together with how it is served; part of its Deployment's name."""


class FollowStatus(Model):
    """What of the source was noticed."""

    wish: Name | None = None
    """Digest of the source as it was last looked at."""
    noticed: Digest | None = None
    """The training's newest Verified checkpoint."""
    next_look: datetime | None = None
    """When a gate is to look for something newer; none while nothing calls for it."""
    failures: Whole = 0
    """Looks in a row that came to no end."""


class GateStatus(Model):
    """The newest gate; written before its Job is made."""

    number: Whole = 0
    state: Literal["Running", "Done"] = "Done"
    message: Message = ""


class RollStatus(Model):
    """How far a roll has come."""

    stage: Literal["Surge", "Canary", "Shift", "Bake", "Back"]
    """Surge: first replicas start. Canary: they get their share. Shift: the rest follows. Bake: all have it, and the
    way back is open. Back: the checkpoint before is being brought back."""
    since: datetime


class ScaleDown(Model):
    """Fewer replicas would do, since when, and how many were needed most in that time."""

    since: datetime
    peak: Whole


class OPTServeStatus(Model):
    """Observed state."""

    conditions: Conditions = ()
    observed_generation: LongWhole | None = None
    operator_term: LongWhole | None = None
    """Fencing token of the operator that wrote this: an operator with a lower one has been replaced."""
    phase: ServePhase | None = None
    model_name: ShortText | None = None
    """Name of the model in the API, the resource's own when the spec gives none."""
    served: ServedCheckpoint | None = None
    previous: Annotated[tuple[ServedCheckpoint, ...], Field(max_length=20)] = ()
    candidate: ServedCheckpoint | None = None
    """The checkpoint a roll is moving to."""
    rejected: Annotated[tuple[Digest, ...], Field(max_length=64), Unique()] = ()
    """Checkpoints that failed the gate or were rolled back."""
    rejected_message: Message = ""
    source: FollowStatus | None = None
    gate: GateStatus | None = None
    roll: RollStatus | None = None
    scale_down: ScaleDown | None = None
    wanted_replicas: Whole | None = None
    """As many as the specification or autoscaling asks for."""
    replicas: Whole = 0
    ready_replicas: Whole = 0
    requests_in_flight: Whole = 0
    selector: ShortText = ""
    """Label selector of the replicas, for the scale subresource."""
    address: Text = ""
    """URL inside the cluster."""
