"""Checkpoint manifests that were never written by a save."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from opt_api.documents.manifests import (
    CheckpointManifest,
    CheckpointObject,
    Lineage,
    TensorEntry,
    TensorSlice,
)
from opt_store import digest_of
from opt_trainer.checkpoint.sealing import seal
from support.plans import tiny_plan

NONE = digest_of(b"")


def manifest_of(names: Sequence[str], *, rows: int = 40, row: int = 8, pieces: int = 2, chunk: int = 64, **more):
    """float32 tensors of shape (rows, row), each cut into `pieces` by rows, one object for each piece."""
    size = rows // pieces * row * 4
    objects = [
        CheckpointObject(key=f"rank-{i}", size=8 + size * len(names), digest=NONE, header_size=8, header_digest=NONE)
        for i in range(pieces)
    ]
    tensors = [
        TensorEntry(
            name=name,
            dtype="float32",
            shape=(rows, row),
            slices=tuple(
                TensorSlice(
                    offset=(i * rows // pieces, 0),
                    shape=(rows // pieces, row),
                    object=i,
                    start=8 + n * size,
                    end=8 + (n + 1) * size,
                    digests=(NONE,) * -(-size // chunk),
                )
                for i in range(pieces)
            ),
        )
        for n, name in enumerate(names)
    ]
    values = {
        "run": "run",
        "attempt": 1,
        "step": 3,
        "time": datetime(2026, 1, 1, tzinfo=UTC),
        "architecture": tiny_plan().architecture,
        "world_size": pieces,
        "objects": tuple(objects),
        "tensors": tuple(tensors),
        "chunk_bytes": chunk,
        "tokens": 3,
        "lineage": Lineage(code_version="test"),
    }
    return seal(CheckpointManifest(**(values | more)))
