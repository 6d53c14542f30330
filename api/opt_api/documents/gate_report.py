"""What the gate of a served model says in its termination message: which checkpoint it found, and whether it is fit."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from opt_api.base import Model
from opt_api.documents.base import Document
from opt_api.types import Digest, LongWhole, NonNegative, Text


class GatedCheckpoint(Model):
    """One checkpoint that can be served."""

    step: LongWhole | None = None
    digest: Digest
    """Of its manifest; of all its objects where the source is a URI."""
    uri: Text
    """Of its Hugging Face directory."""
    time: datetime | None = None
    """When it was saved."""
    loss: NonNegative | None = None
    """On the held-out sequences, in nats per token."""


class GateReport(Document):
    """Fits a container's termination message (4096 bytes)."""

    kind: Literal["GateReport"] = "GateReport"
    version: Literal[1] = 1
    checkpoint: GatedCheckpoint | None = None
    """What the source offers now; none where it has nothing to serve yet."""
    passed: bool = False
    reason: Text = ""
    """Why there is none, or why it did not pass."""
    later: datetime | None = None
    """When a checkpoint that is too young now will be old enough."""
