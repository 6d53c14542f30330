"""Conditions, as the Kubernetes API conventions have them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from opt_api.base import Model
from opt_api.lists import Unique
from opt_api.types import LongWhole, Message

ConditionStatus = Literal["True", "False", "Unknown"]
ConditionType = Annotated[str, Field(min_length=1, max_length=316, pattern=r"^[A-Z][A-Za-z]*$")]
Reason = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Z][A-Za-z0-9]*$")]


class Condition(Model):
    """One observed aspect; the transition time moves only when the status flips."""

    type: ConditionType
    status: ConditionStatus
    reason: Reason
    message: Message = ""
    observed_generation: LongWhole | None = None
    last_transition_time: datetime


Conditions = Annotated[tuple[Condition, ...], Field(max_length=16), Unique("type")]
