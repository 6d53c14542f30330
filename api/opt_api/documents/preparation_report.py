"""What a data preparation Job says in its termination message: how whoever has no credentials learns what is stored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from opt_api.documents.base import Document
from opt_api.types import Digest, LongWhole, Name, Text


class PreparationReport(Document):
    """Where a preparation stands. Fits a container's termination message (4096 bytes)."""

    kind: Literal["PreparationReport"] = "PreparationReport"
    version: Literal[1] = 1
    plan: Text
    """Key of the preparation's plan in the store."""
    stages: Annotated[tuple[Name, ...], Field(max_length=64)] = ()
    """Stages still to run, in order; none once there is a manifest."""
    dataset: Text | None = None
    """URI of the manifest, once there is one."""
    manifest_digest: Digest | None = None
    """Digest of the manifest."""
    train_blocks: LongWhole | None = None
