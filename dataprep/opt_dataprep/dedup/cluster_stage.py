"""Stage `cluster`: connected candidates, dealt into bins that can be verified by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from opt_dataprep.dedup.bands_stage import EDGE, EDGES
from opt_dataprep.dedup.numbering import bases, by_part
from opt_dataprep.dedup.sketch_stage import SIZE, SIZES, near_tasks
from opt_dataprep.dedup.union_find import Components
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import commits_of, read, read_range, results_digest
from opt_dataprep.work.stage import Stage, Task

CANDIDATES = "candidates.bin"
CANDIDATE = np.dtype([("number", "<u8"), ("component", "<u8"), ("bin", "<u4")])
BIN_SHINGLES = 2_000_000
"""Shingles of one bin, unless a single component has more: 16 MB while it is verified."""


def _inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    return {name: results_digest(preparation, name) for name in ("read", "sketch", "bands")}


def _run(task: Task) -> dict[str, Any]:
    preparation = task.preparation
    starts = bases(preparation)
    numbers, roots = _components(preparation, starts[-1])
    candidates = np.zeros(len(numbers), CANDIDATE)
    candidates["number"], candidates["component"] = numbers, roots
    candidates["bin"] = deal(roots, _sizes(preparation, numbers, starts))
    task.emit(CANDIDATES, [candidates.tobytes()])
    return {
        "bins": int(candidates["bin"].max()) + 1 if len(candidates) else 0,
        "candidates": len(candidates),
        "components": len(np.unique(roots)),
        "parts": by_part(numbers, starts),
    }


def _components(preparation: Preparation, documents: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Numbers of all documents with an edge, sorted, and the component of each."""
    components, ends = Components(documents), np.zeros(0, np.uint64)
    for commit in commits_of(preparation, "bands"):
        edges = np.frombuffer(read(preparation, commit, EDGES), EDGE)
        components.union(edges["one"].astype(np.int64), edges["other"].astype(np.int64))
        ends = np.unique(np.concatenate((ends, edges["one"], edges["other"])))
    return ends, components.find(ends.astype(np.int64)).astype(np.uint64)


def _sizes(preparation: Preparation, numbers: NDArray[np.uint64], starts: list[int]) -> NDArray[np.int64]:
    """Shingles of each candidate, repeats included."""
    offsets, pieces = by_part(numbers, starts), [np.zeros(0, np.int64)]
    for part, commit in enumerate(commits_of(preparation, "sketch")):
        rows = (numbers[offsets[part] : offsets[part + 1]] - np.uint64(starts[part])).astype(np.int64)
        if len(rows):
            pieces.append(np.frombuffer(read(preparation, commit, SIZES), SIZE)[rows].astype(np.int64))
    return np.concatenate(pieces)


def deal(roots: NDArray[np.uint64], sizes: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Bin of each candidate: components in order, a new bin when one would grow past `BIN_SHINGLES`."""
    names, component = np.unique(roots, return_inverse=True)
    totals = np.bincount(component, weights=sizes, minlength=len(names)).astype(np.int64)
    bins, current, held = np.zeros(len(names), np.uint32), 0, 0
    for at, total in enumerate(totals.tolist()):
        if held and held + total > BIN_SHINGLES:
            current, held = current + 1, 0
        bins[at] = current
        held += total
    return bins[component]


def candidates_of_part(preparation: Preparation, part: int) -> NDArray[np.void]:
    """Candidates among one part's documents, sorted by number."""
    (commit,) = commits_of(preparation, "cluster")
    begin, end = commit.facts["parts"][part : part + 2]
    size = CANDIDATE.itemsize
    return np.frombuffer(read_range(preparation, commit, CANDIDATES, begin * size, (end - begin) * size), CANDIDATE)


CLUSTER = Stage("cluster", "candidate clusters", lambda p: near_tasks(p, 1), _inputs, _run)
