"""A change of a running field, applied by all ranks at one step."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from opt_api.documents.base import Document
from opt_api.training.data import BatchRange
from opt_api.types import LongCount, LongWhole, Positive, ShortText, Text


class LiveChange(Document):
    """New values of running fields; absent ones stay as they are."""

    kind: Literal["LiveChange"] = "LiveChange"
    version: Literal[1] = 1
    sequence: LongCount
    """Changes are numbered from 1 without gaps and applied in order."""
    at_step: LongWhole
    """The first step computed with the new values; the same on every rank."""
    learning_rate: Positive | None = None
    """New peak learning rate."""
    clip: Positive | None = None
    loss_scale_floor: Positive | None = None
    skip_batches: Annotated[tuple[BatchRange, ...], Field(max_length=256)] | None = None
    """Replaces the whole list."""
    reason: Text
    who: ShortText
    time: datetime
