"""Stage `bands`: one band of all sketches, merged range by range; documents with equal keys become edges."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from opt_dataprep.dedup.exact import DROP_RECORD, DROPS
from opt_dataprep.dedup.numbering import bases
from opt_dataprep.dedup.runs import Run, equal_groups, merge
from opt_dataprep.dedup.sketch_stage import BAND_RECORD, BANDS, near_settings, near_tasks
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import commits_of, read, results_digest
from opt_dataprep.work.stage import Stage, Task

EDGES = "edges.bin"
EDGE = np.dtype([("one", "<u8"), ("other", "<u8")])


def _inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    return {
        "band": index,
        "sketch": results_digest(preparation, "sketch"),
        "read": results_digest(preparation, "read"),
        "exact": results_digest(preparation, "exact"),
    }


def _run(task: Task) -> dict[str, Any]:
    preparation, band = task.preparation, task.index
    starts = bases(preparation)
    gone = exact_drops(preparation, starts[-1])
    runs = []
    for commit, base, after in zip(commits_of(preparation, "sketch"), starts, starts[1:], strict=False):
        start = band * (after - base) * BAND_RECORD.itemsize
        runs.append(Run(commit, BANDS, start, commit.facts["offsets"][band], base))
    edges = [np.zeros(0, EDGE)]
    for numbers, records in merge(preparation, runs, BAND_RECORD):
        left = ~is_set(gone, numbers)
        edges.append(star_edges(numbers[left], records["key"][left]))
    every = np.concatenate(edges)
    task.emit(EDGES, [every.tobytes()])
    return {"edges": len(every)}


def exact_drops(preparation: Preparation, documents: int) -> NDArray[np.uint8]:
    """One bit a document, set for those that the exact stage dropped."""
    bits = np.zeros(documents // 8 + 1, np.uint8)
    for commit in commits_of(preparation, "exact"):
        numbers = np.frombuffer(read(preparation, commit, DROPS), DROP_RECORD)["number"]
        np.bitwise_or.at(bits, (numbers >> np.uint64(3)).astype(np.int64), _bit(numbers))
    return bits


def is_set(bits: NDArray[np.uint8], numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether the bit of each number is set."""
    found: NDArray[np.bool_] = (bits[(numbers >> np.uint64(3)).astype(np.int64)] & _bit(numbers)) != 0
    return found


def _bit(numbers: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.left_shift(np.uint8(1), (numbers & np.uint64(7)).astype(np.uint8))


def star_edges(numbers: NDArray[np.uint64], keys: NDArray[np.uint64]) -> NDArray[np.void]:
    """Edges from the first document of each group of equal keys to the others; keys are sorted."""
    starts, lengths = equal_groups(keys)
    others = lengths - 1
    edges = np.zeros(int(others.sum()), EDGE)
    first = np.repeat(starts, others)
    place = np.arange(len(edges)) - np.repeat(np.cumsum(others) - others, others)
    edges["one"], edges["other"] = numbers[first], numbers[first + 1 + place]
    return edges


BANDS_STAGE = Stage("bands", "candidates", lambda p: near_tasks(p, near_settings(p).bands), _inputs, _run)
