"""Which bytes of which objects a rank needs, worked out from the checkpoint's documents alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from opt_api.documents.manifests import TensorEntry, TensorSlice
from opt_trainer.checkpoint.boxes import Box, intersect
from opt_trainer.checkpoint.contents import Wanted
from opt_trainer.checkpoint.errors import WrongCheckpoint
from opt_trainer.checkpoint.image import NAMES
from opt_trainer.state import LocalTensor

BLOCK_BYTES = 64 << 20
"""Largest single fetch, about; bounds the memory of a load together with the fetches in flight."""


@dataclass(frozen=True, slots=True)
class Read:
    """Some rows of one stored slice, for one target.

    Attributes:
        object: Index of the object.
        start, end: Bytes of the object, on chunk boundaries of the slice.
        digests: Of each chunk in turn.
        skip: Bytes from `start` to the first row.
        rows: The rows as a box of the global tensor.
        wanted: The part of them that the target holds.
        target: Where it goes.
    """

    object: int
    start: int
    end: int
    digests: tuple[str, ...]
    skip: int
    rows: Box
    wanted: Box
    target: LocalTensor


@dataclass(frozen=True, slots=True)
class Fetch:
    """Adjoining reads of one object that are fetched by one request."""

    object: int
    start: int
    end: int
    reads: tuple[Read, ...]


def plan_fetches(
    entries: Mapping[str, TensorEntry],
    tensors: Sequence[LocalTensor],
    chunk_bytes: int,
    block_bytes: int = BLOCK_BYTES,
) -> list[Fetch]:
    """What to fetch to fill the tensors.

    Args:
        entries: Tensors of the checkpoint by name, with all slices that hold a part of the targets.
        tensors: To fill; all are in the checkpoint (see `check_fits`).
        chunk_bytes: Unit of the slices' digests.
        block_bytes: Largest fetch, about.
    """
    reads = [
        read
        for target in tensors
        for piece in entries[target.name].slices or ()
        for read in _reads(piece, _flat(target), chunk_bytes, block_bytes)
    ]
    return list(_merged(sorted(reads, key=lambda r: (r.object, r.start, r.end)), block_bytes))


def check_fits(stored: Iterable[TensorEntry], tensors: Sequence[LocalTensor]) -> None:
    """Hold the tensors of a manifest against those to fill.

    Raises:
        WrongCheckpoint: A tensor is not in the checkpoint, or has another shape or number format there.
    """
    entries = {entry.name: entry for entry in stored}
    for target in tensors:
        _check(entries.get(target.name), target)


def wanted_by(tensors: Sequence[LocalTensor]) -> set[Wanted]:
    """The boxes that the tensors need, each once."""
    return {(t.global_shape, Box(t.offset, tuple(t.tensor.shape))) for t in tensors}


def _check(entry: TensorEntry | None, target: LocalTensor) -> None:
    if entry is None:
        raise WrongCheckpoint(
            f"tensor {target.name!r}: the model has it, the checkpoint does not; it is another model's"
        )
    if entry.shape != target.global_shape:
        raise WrongCheckpoint(
            f"tensor {target.name!r}: the checkpoint has shape {entry.shape}, the model {target.global_shape}"
        )
    if entry.dtype != NAMES.get(target.tensor.dtype):
        raise WrongCheckpoint(
            f"tensor {target.name!r}: the checkpoint has {entry.dtype}, the model {target.tensor.dtype}"
        )


def _flat(target: LocalTensor) -> LocalTensor:
    """A scalar as one row, so that everything has rows."""
    if target.global_shape:
        return target
    return LocalTensor(target.name, target.tensor.view(1), (1,), (0,))


def _reads(piece: TensorSlice, target: LocalTensor, chunk: int, block_bytes: int) -> Iterator[Read]:
    stored = Box(piece.offset or (0,), piece.shape or (1,))
    wanted = intersect(stored, Box(target.offset, tuple(target.tensor.shape)))
    if wanted is None:
        return
    row = math.prod(stored.shape[1:]) * target.tensor.element_size()
    first = wanted.offset[0] - stored.offset[0]
    last = first + wanted.shape[0]
    step = max(1, block_bytes // row)
    for a in range(first, last, step):
        b = min(a + step, last)
        c0, c1 = a * row // chunk, -(-b * row // chunk)
        yield Read(
            object=piece.object,
            start=piece.start + c0 * chunk,
            end=min(piece.start + c1 * chunk, piece.end),
            digests=piece.digests[c0:c1],
            skip=a * row - c0 * chunk,
            rows=stored.rows(a, b),
            wanted=wanted.rows(a - first, b - first),
            target=target,
        )


def _merged(reads: Sequence[Read], block_bytes: int) -> Iterator[Fetch]:
    group: list[Read] = []
    end = 0
    for read in reads:
        joins = group and read.object == group[0].object and read.start <= end
        if group and not (joins and max(end, read.end) - group[0].start <= block_bytes):
            yield Fetch(group[0].object, group[0].start, end, tuple(group))
            group, end = [], 0
        group.append(read)
        end = max(end, read.end)
    if group:
        yield Fetch(group[0].object, group[0].start, end, tuple(group))


def bytes_needed(tensors: Sequence[LocalTensor]) -> int:
    """Bytes that the tensors hold."""
    return sum(t.tensor.nbytes for t in tensors)
