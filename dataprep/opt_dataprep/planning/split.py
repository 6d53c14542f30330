"""Cutting objects into parts of about `part_bytes`, at plan time, so that the number of workers may change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from opt_api.documents.dataprep import Part, PlannedObject, Slice
from opt_dataprep.sources.columnar import arrow_batches, parquet_groups

MAX_SLICES = 10_000
"""Small files in one part, so that a part stays a small document."""


@dataclass(frozen=True)
class Piece:
    """One slice and its size in source bytes."""

    slice: Slice
    size: int


def split_objects(objects: Sequence[PlannedObject], first: int, source: int, part_bytes: int) -> Iterator[Part]:
    """Yield the parts of one source, whose objects are numbered from `first` in the plan."""
    pieces: list[Piece] = []
    held = 0
    for piece in _pieces(objects, first, part_bytes):
        if pieces and (held + piece.size > part_bytes or len(pieces) >= MAX_SLICES):
            yield _part(source, pieces, held)
            pieces, held = [], 0
        pieces.append(piece)
        held += piece.size
    if pieces:
        yield _part(source, pieces, held)


def _part(source: int, pieces: list[Piece], size: int) -> Part:
    return Part(source=source, size=size, slices=tuple(piece.slice for piece in pieces))


def _pieces(objects: Sequence[PlannedObject], first: int, part_bytes: int) -> Iterator[Piece]:
    for number, planned in enumerate(objects, first):
        yield from _CUTS.get((planned.framing, planned.compression), _whole)(planned, number, part_bytes)


def _whole(planned: PlannedObject, number: int, part_bytes: int) -> Iterator[Piece]:
    """One slice: a compressed stream has no place to start in the middle, a text file is one document."""
    yield Piece(Slice(object=number, start=0, end=planned.size), planned.size)


def _by_bytes(planned: PlannedObject, number: int, part_bytes: int) -> Iterator[Piece]:
    count = -(-planned.size // part_bytes)
    bounds = [planned.size * i // count for i in range(count + 1)]
    for start, end in pairwise(bounds):
        yield Piece(Slice(object=number, start=start, end=end), end - start)


def _by_units(
    sizes: Callable[[PlannedObject], list[int]],
) -> Callable[[PlannedObject, int, int], Iterator[Piece]]:
    def cut(planned: PlannedObject, number: int, part_bytes: int) -> Iterator[Piece]:
        start, taken = 0, 0
        units = sizes(planned)
        for unit, size in enumerate(units):
            if taken and taken + size > part_bytes:
                yield Piece(Slice(object=number, start=start, end=unit), taken)
                start, taken = unit, 0
            taken += size
        if units:
            yield Piece(Slice(object=number, start=start, end=len(units)), taken)

    return cut


_CUTS: dict[tuple[str, str], Callable[[PlannedObject, int, int], Iterator[Piece]]] = {
    ("jsonl", "none"): _by_bytes,
    ("parquet", "none"): _by_units(parquet_groups),
    ("arrow", "none"): _by_units(arrow_batches),
}
