"""Manifests: a checkpoint or a data set exists only if its manifest verifies. Written last."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from opt_api.architecture import Architecture
from opt_api.base import Model
from opt_api.documents.base import Document, SealedDocument
from opt_api.training.data import BatchRange
from opt_api.types import Count, Digest, LongCount, LongWhole, Name, Positive, ShortText, Text, Whole

State = Literal["Uploading", "Complete", "Verified", "Poisoned"]
"""Complete: the manifest is there. Verified: every object was read back and has its digest. Poisoned: one has not."""


class ObjectEntry(Model):
    """One object, by its key relative to the manifest."""

    key: Text
    size: LongWhole
    digest: Digest


class Lineage(Model):
    """What a result was made from."""

    code_version: ShortText
    plan: Digest | None = None
    """Digest of the plan."""
    identity: Digest | None = None
    """Digest of the plan's identity fields."""
    dataset: Digest | None = None
    """Digest of the data set's manifest."""
    parent: Digest | None = None
    """Digest of the checkpoint manifest that the attempt began from."""


class HeldBox(Model):
    """A box that an object holds of some tensor: `shape` at `offset` of one that has the shape `whole`."""

    whole: tuple[LongWhole, ...]
    offset: tuple[LongWhole, ...]
    shape: tuple[LongWhole, ...]


class CheckpointObject(ObjectEntry):
    """One rank's safetensors file; its header has a digest of its own, the rest has those of the slices' chunks."""

    header_size: LongWhole
    header_digest: Digest
    index: ObjectEntry | None = None
    """The rank's `CheckpointIndex`; absent in manifests of version 1, which list the slices themselves."""
    boxes: tuple[HeldBox, ...] | None = None
    """Every box that the object holds of any tensor, each once: who needs none of them need not read the index."""


class TensorSlice(Model):
    """Where one piece of one tensor lies: `shape` at `offset` of the whole, in bytes [start, end) of an object."""

    offset: tuple[LongWhole, ...]
    shape: tuple[LongWhole, ...]
    object: Whole = 0
    """Index into the manifest's objects; 0 in an index, which is of one object."""
    start: LongWhole
    end: LongWhole
    digests: tuple[Digest, ...] = ()
    """Digest of each `chunk_bytes` of the slice in turn, the last one shorter: a reader of a part checks that part."""


class TensorEntry(Model):
    """One whole tensor and the slices that cover it exactly once; in an index, those of one object."""

    name: Text
    dtype: Literal["float32", "float16", "bfloat16", "int64", "int32", "uint8"]
    shape: tuple[LongWhole, ...]
    slices: tuple[TensorSlice, ...] | None = None
    """Absent in a manifest from version 2 on: they are in the objects' indexes."""


class ScalerState(Model):
    """State of the dynamic loss scale."""

    scale: Positive
    good_steps: LongWhole = 0
    """Steps without overflow since the scale last changed."""
    last_overflow_step: LongWhole | None = None
    overflows: LongWhole = 0
    """Updates left out so far."""


class RunningValues(Model):
    """The fields that live changes touch, as they are in force."""

    learning_rate: Positive
    """Peak learning rate."""
    clip: Positive
    loss_scale_floor: Positive | None = None
    skip_batches: tuple[BatchRange, ...] = ()


class CheckpointIndex(Document):
    """What one rank's object holds, with a digest for every chunk. The manifest has the digest of this document."""

    kind: Literal["CheckpointIndex"] = "CheckpointIndex"
    version: Literal[1] = 1
    tensors: tuple[TensorEntry, ...]


class CheckpointManifest(SealedDocument):
    """A checkpoint: every object with size and digest, every tensor, and the loop's own state.

    In version 1 the tensors list their slices; from version 2 on each object has a `CheckpointIndex` for that.
    """

    file_name: ClassVar[str] = "manifest.json"

    kind: Literal["CheckpointManifest"] = "CheckpointManifest"
    version: Literal[1, 2] = 2
    run: Text
    attempt: Whole
    step: LongWhole
    """Optimiser steps done."""
    time: datetime
    architecture: Architecture
    world_size: Count
    objects: tuple[CheckpointObject, ...]
    tensors: tuple[TensorEntry, ...]
    chunk_bytes: LongCount
    """Size of the chunks that slices carry digests of."""
    tokens: LongWhole
    """Tokens trained on so far."""
    loss: float | None = None
    loss_scale: float | None = None
    activation_norm: float | None = None
    validation_loss: dict[str, float] = Field(default_factory=dict)
    applied_change: LongWhole = 0
    scaler: ScalerState | None = None
    running: RunningValues | None = None
    lineage: Lineage


class CheckpointMark(SealedDocument):
    """What is known of a checkpoint beyond its manifest, which never changes. One object beside it for each mark."""

    kind: Literal["CheckpointMark"] = "CheckpointMark"
    version: Literal[1] = 1
    mark: Literal["Verified", "Poisoned", "KnownGood", "Pinned", "Served"]
    """Pinned, KnownGood and Served ones are never deleted by retention; a Poisoned one is never loaded."""
    manifest: Digest | None = None
    """Digest of the manifest it is about; None where that cannot be read."""
    time: datetime
    by: ShortText
    reason: Text = ""


class AttemptFence(Document):
    """The newest attempt of a run; an older one may no longer publish a checkpoint."""

    file_name: ClassVar[str] = "fence.json"

    kind: Literal["AttemptFence"] = "AttemptFence"
    version: Literal[1] = 1
    attempt: Whole


class SourceEntry(Model):
    """One source object of a data set, as it was read."""

    source: Name
    uri: Text
    etag: ShortText
    size: LongWhole
    parts: Count
    """Byte ranges it was read in."""


class SourceCounts(Model):
    """What became of one source."""

    source: Name
    documents_read: LongWhole
    documents_kept: LongWhole
    documents_validation: LongWhole
    bytes_read: LongWhole
    bytes_kept: LongWhole
    tokens_train: LongWhole
    tokens_validation: LongWhole
    dropped: dict[str, LongWhole] = Field(default_factory=dict)
    """Documents dropped, by reason."""
    repaired: dict[str, LongWhole] = Field(default_factory=dict)
    """Documents kept after a repair, by what was wrong."""


class ShardEntry(ObjectEntry):
    """One Arrow file of blocks."""

    split: Literal["train", "validation"]
    source: Name | None = None
    """Source of a validation shard; training shards mix all."""
    blocks: LongWhole
    first_block: LongWhole
    """Index of the shard's first block within its split (and source)."""


class TokenizerEntry(Model):
    """The vocabulary, stored with the data set."""

    vocabulary_size: Annotated[Count, Field(le=65536)]
    vocab: ObjectEntry
    merges: ObjectEntry
    end_of_document: Whole = 2
    padding: Whole = 1


class DatasetManifest(Document):
    """A data set: shards, counts, lineage down to source objects, and the parameters it was made with."""

    file_name: ClassVar[str] = "manifest.json"

    kind: Literal["DatasetManifest"] = "DatasetManifest"
    version: Literal[1] = 1
    sequence_length: Count
    tokens_per_block: LongCount
    """Tokens stored per block: the sequence length, or one more."""
    seed: Whole
    parameters: Digest
    """Digest of every setting that shapes the result."""
    tokenizer: TokenizerEntry
    sources: tuple[SourceEntry, ...]
    counts: tuple[SourceCounts, ...]
    train_blocks: LongWhole
    validation_blocks: LongWhole
    shards: tuple[ShardEntry, ...]
    exclusions: tuple[ObjectEntry, ...] = ()
    """Sampled rejected documents, by reason."""
    report: ObjectEntry | None = None
    """A page for people."""
    plan: ObjectEntry | None = None
    """The preparation's plan: every setting, every object and the byte ranges it was read in."""
    lineage: Lineage
