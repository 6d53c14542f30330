"""Sorted runs: what each part says of its documents, sorted by a hash, so that parts are merged range by range.

Hashes are uniform, so cutting their space into equal ranges bounds what a merge holds at a time, whatever the corpus.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opt_api.documents.dataprep import PartCommit
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import read_range

RANGES = 64
"""Equal ranges of the hash space; the smallest unit of a merge."""
MERGE_RECORDS = 1_000_000
"""Records a merge holds at a time (some 80 MB with the copies that sorting makes), unless a single range has more."""

Records = NDArray[np.void]


def offsets_of(sorted_hashes: NDArray[np.uint64]) -> list[int]:
    """Return where each of the 64 ranges begins in a sorted run, and the end."""
    bounds = np.arange(1, RANGES, dtype=np.uint64) << np.uint64(64 - 6)
    inner = np.searchsorted(sorted_hashes, bounds)
    return [0, *map(int, inner), len(sorted_hashes)]


@dataclass(frozen=True)
class Run:
    """One part's run inside an object.

    Attributes:
        commit: The task that wrote it.
        name: Its object.
        start: Byte offset of the run in the object.
        offsets: See `offsets_of`.
        base: Number of the part's first document among all.
    """

    commit: PartCommit
    name: str
    start: int
    offsets: list[int]
    base: int


def merge(
    preparation: Preparation, runs: list[Run], dtype: np.dtype[np.void], first: int = 0, last: int = RANGES
) -> Iterator[tuple[NDArray[np.uint64], Records]]:
    """Yield (document numbers, records) of ranges [first, last) in order, sorted by the record's first field.

    Records that are equal in the first field come together, in one yield, in the order of document numbers. The dtype
    has a field `row`, the document's number in its part.
    """
    for low, high in _groups(runs, first, last):
        pieces = [_slice(preparation, run, dtype, low, high) for run in runs]
        numbers = np.concatenate(
            [piece["row"].astype(np.uint64) + np.uint64(run.base) for run, piece in zip(runs, pieces, strict=True)]
        )
        records = np.concatenate(pieces)
        assert dtype.names is not None
        order = np.lexsort((numbers, records[dtype.names[0]]))
        yield numbers[order], records[order]


def _groups(runs: list[Run], first: int, last: int) -> Iterator[tuple[int, int]]:
    sizes = np.zeros(RANGES, np.int64)
    for run in runs:
        sizes += np.diff(run.offsets)
    low, held = first, 0
    for at in range(first, last):
        if held and held + sizes[at] > MERGE_RECORDS:
            yield low, at
            low, held = at, 0
        held += int(sizes[at])
    if held:
        yield low, last


def _slice(preparation: Preparation, run: Run, dtype: np.dtype[np.void], low: int, high: int) -> Records:
    begin, end = run.offsets[low], run.offsets[high]
    size = dtype.itemsize
    data = read_range(preparation, run.commit, run.name, run.start + begin * size, (end - begin) * size)
    return np.frombuffer(data, dtype)


def equal_groups(values: NDArray[np.generic]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each run of equal values begins in a sorted array, and how long it is; single ones left out."""
    if not len(values):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    lengths = np.diff(np.append(starts, len(values)))
    several = lengths > 1
    return starts[several], lengths[several]
