"""What the trainer tells the writer process, and what that answers: one JSON document a line."""

from __future__ import annotations

from typing import Literal

from opt_api.base import Model
from opt_api.documents.manifests import CheckpointManifest, CheckpointObject, HeldBox
from opt_api.training.checkpointing import Retention
from opt_api.types import Count, LongCount, LongWhole, Message, NonNegative, ShortText, Text, Whole
from opt_store import S3Settings, Store, StoreSettings, open_store

DType = Literal["float32", "float16", "bfloat16", "int64", "int32", "uint8"]

CHUNK_BYTES = 4 << 20
"""Unit of digests within a slice: what a reader of a part reads too much at most, at each end."""


class StoreAddress(Model):
    """A store that another process opens by itself; credentials come from the environment, never from a message."""

    url: Text
    s3: S3Settings | None = None
    settings: StoreSettings | None = None

    def open(self) -> Store:
        """Open it."""
        return open_store(self.url, s3=self.s3, settings=self.settings)


class WriterConfig(Model):
    """First line to a writer."""

    store: StoreAddress
    run: Text
    attempt: Whole
    rank: Whole
    world_size: Count
    descriptor: Whole
    """Inherited file descriptor of the staging memory."""
    peers_deadline_s: NonNegative = 1800
    """How long rank 0 waits for the other ranks' parts, and they for the manifest."""


class Piece(Model):
    """One tensor's place in the object: bytes [start, end), and what it is of the whole."""

    name: Text
    dtype: DType
    global_shape: tuple[LongWhole, ...]
    offset: tuple[LongWhole, ...]
    shape: tuple[LongWhole, ...]
    start: LongWhole
    end: LongWhole


class RetentionPolicy(Model):
    """What to keep after a save."""

    retention: Retention
    pinned: tuple[LongCount, ...] = ()


class ExportRequest(Model):
    """Write a Hugging Face directory beside the checkpoint."""

    dtype: DType | None = None
    """Number format of the weights; as saved when absent."""
    tokenizer: Text | None = None
    """Local folder to take the tokenizer's files from."""


class SaveJob(Model):
    """One save: the staging memory holds `size` bytes of it."""

    prefix: Text
    size: LongWhole
    pieces: tuple[Piece, ...]
    draft: CheckpointManifest
    """The manifest but for objects and tensors, which are put in when all ranks' parts are there."""
    retention: RetentionPolicy
    finite: bool = True
    """Whether a value that is not finite fails the save."""
    export: ExportRequest | None = None


class BoxGroup(Model):
    """Tensors of one number format of which a rank holds the same box."""

    dtype: DType
    box: HeldBox
    names: tuple[Text, ...]


class CheckpointPart(Model):
    """What one rank contributes, left in the store for rank 0. The digests of its bytes are in the rank's index."""

    rank: Whole
    object: CheckpointObject
    groups: tuple[BoxGroup, ...]


class Outcome(Model):
    """How far a save is."""

    step: LongWhole
    stage: Literal["Stored", "Complete", "Exported", "Failed", "Fenced"]
    """Stored: this rank's object is there and was read back. Complete: the manifest is there."""
    message: Message = ""
    seconds: NonNegative = 0
    """Since the writer took the job."""
    stored_bytes: LongWhole = 0
    manifest: ShortText = ""
    """Digest of the manifest, with Complete."""
