"""Data preparation's own documents: the plan that fixes its parts, and the small commits that make a part exist."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from opt_api.base import Model
from opt_api.documents.base import Document
from opt_api.documents.manifests import ObjectEntry
from opt_api.training.data import DataSpec
from opt_api.types import Count, Digest, LongWhole, ShortText, SourceUri, Text, Whole

Framing = Literal["jsonl", "parquet", "arrow", "text"]
Compression = Literal["none", "gzip", "zstd"]


class PlannedObject(Model):
    """One source object as it was found when the plan was made; a worker refuses another etag."""

    uri: SourceUri
    """Store the object is in."""
    key: Text
    etag: ShortText
    size: LongWhole
    framing: Framing
    compression: Compression


class Slice(Model):
    """Documents of one object that begin in [start, end).

    Units: bytes for uncompressed JSONL; row groups for Parquet; record batches for Arrow; the whole object otherwise.
    """

    object: Whole
    """Index into the plan's objects."""
    start: LongWhole
    end: LongWhole


class Part(Model):
    """One unit of work: slices of one source, in order."""

    source: Whole
    """Index into the sources of the plan's spec."""
    size: LongWhole
    """Source bytes."""
    slices: Annotated[tuple[Slice, ...], Field(min_length=1)]


class DataprepPlan(Document):
    """Everything that shapes a data set; its digest names it. The number of workers is not in it."""

    file_name: ClassVar[str] = "plan.json"

    kind: Literal["DataprepPlan"] = "DataprepPlan"
    version: Literal[1] = 1
    data: DataSpec
    """The spec, with the fields that do not shape the result at their defaults."""
    objects: tuple[PlannedObject, ...]
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]
    code: dict[str, ShortText]
    """Version of this code and of each library whose version can change the result."""


class PartCommit(Document):
    """A part's output exists once this is written. Deterministic, so that writing it twice is no error."""

    kind: Literal["PartCommit"] = "PartCommit"
    version: Literal[1] = 1
    stage: ShortText
    identity: Digest
    """Digest of the inputs, the step's settings and the code version."""
    objects: tuple[ObjectEntry, ...] = ()
    """Keys are relative to the preparation's prefix."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """Small results that later stages need: counters, offsets."""


class StageIndex(Document):
    """All commits of one stage in order, so that a later worker reads one object."""

    kind: Literal["StageIndex"] = "StageIndex"
    version: Literal[1] = 1
    stage: ShortText
    commits: tuple[PartCommit, ...]


class PreparationEvent(Document):
    """What data preparation says while it runs, one JSON line each."""

    kind: Literal["PreparationEvent"] = "PreparationEvent"
    version: Literal[1] = 1
    stage: ShortText
    """Name of the stage; `done` in the last event."""
    done: Whole
    """Tasks of this stage that are committed."""
    tasks: Count
    bytes_done: LongWhole
    bytes_total: LongWhole
    seconds: float
    """Since the preparation began."""
    reused: Whole = 0
    """Tasks of this stage found committed by an earlier try."""
    retries: Whole = 0
    """Tasks of this stage that were given to another worker after theirs was lost."""
    documents: LongWhole = 0
    dropped: dict[str, LongWhole] = Field(default_factory=dict)
    dataset: Text | None = None
    """URI of the manifest, in the last event."""
