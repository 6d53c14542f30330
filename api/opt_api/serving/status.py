"""What the operator reports of a served model."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from opt_api.base import Model
from opt_api.conditions import Conditions
from opt_api.lists import Unique
from opt_api.types import Digest, LongWhole, Message, ShortText, Text, Whole

ServePhase = Literal["Pending", "Loading", "Serving", "Rolling", "RollingBack", "Asleep", "Failed", "Deleting"]


class ServedCheckpoint(Model):
    """One checkpoint a replica can serve."""

    step: LongWhole | None = None
    digest: Digest | None = None
    uri: Text | None = None
    time: datetime | None = None


class OPTServeStatus(Model):
    """Observed state."""

    conditions: Conditions = ()
    observed_generation: LongWhole | None = None
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
    replicas: Whole = 0
    ready_replicas: Whole = 0
    requests_in_flight: Whole = 0
    selector: ShortText = ""
    """Label selector of the replicas, for the scale subresource."""
    address: Text = ""
    """URL inside the cluster."""
