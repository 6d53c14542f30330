"""Checkpoint documents that were never written by a save."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from opt_api.documents.manifests import (
    CheckpointManifest,
    CheckpointObject,
    HeldBox,
    Lineage,
    ObjectEntry,
    TensorEntry,
    TensorSlice,
)
from opt_store import digest_of
from opt_trainer.checkpoint.job import BoxGroup, CheckpointPart
from support.plans import tiny_plan

NONE = digest_of(b"")
CHUNK = 64


def box_of(number: int, rows: int, row: int, pieces: int) -> HeldBox:
    return HeldBox(whole=(rows, row), offset=(number * rows // pieces, 0), shape=(rows // pieces, row))


def entries_of(names: Sequence[str], *, rows: int = 40, row: int = 8, pieces: int = 2) -> dict[str, TensorEntry]:
    """float32 tensors of shape (rows, row), each cut into `pieces` by rows, one object for each piece."""
    size = rows // pieces * row * 4

    def piece(i: int, n: int) -> TensorSlice:
        box = box_of(i, rows, row, pieces)
        start = 8 + n * size
        return TensorSlice(
            offset=box.offset, shape=box.shape, object=i, start=start, end=start + size,
            digests=(NONE,) * -(-size // CHUNK),
        )  # fmt: skip

    return {
        name: TensorEntry(
            name=name, dtype="float32", shape=(rows, row), slices=tuple(piece(i, n) for i in range(pieces))
        )
        for n, name in enumerate(names)
    }


def manifest_of(names: Sequence[str], *, rows: int = 40, row: int = 8, pieces: int = 2, **more) -> CheckpointManifest:
    """The manifest of these entries."""
    size = rows // pieces * row * 4
    objects = [
        CheckpointObject(
            key=f"rank-{i}", size=8 + size * len(names), digest=NONE, header_size=8, header_digest=NONE,
            index=ObjectEntry(key=f"index-{i}", size=1, digest=NONE), boxes=(box_of(i, rows, row, pieces),),
        )
        for i in range(pieces)
    ]  # fmt: skip
    values = {
        "run": "run",
        "attempt": 1,
        "step": 3,
        "time": datetime(2026, 1, 1, tzinfo=UTC),
        "architecture": tiny_plan().architecture,
        "world_size": pieces,
        "objects": tuple(objects),
        "tensors": tuple(TensorEntry(name=name, dtype="float32", shape=(rows, row)) for name in sorted(names)),
        "chunk_bytes": CHUNK,
        "tokens": 3,
        "lineage": Lineage(code_version="test"),
    }
    return CheckpointManifest(**(values | more)).sealed()


def parts_of(manifest: CheckpointManifest) -> list[CheckpointPart]:
    """What its ranks left: each holds the same box of every tensor."""
    names = tuple(entry.name for entry in manifest.tensors)
    return [
        CheckpointPart(rank=rank, object=entry, groups=(BoxGroup(dtype="float32", box=entry.boxes[0], names=names),))
        for rank, entry in enumerate(manifest.objects)
    ]
