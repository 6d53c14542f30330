"""Stage `shingle`: the shingle sets of a part's candidates, laid out bin by bin for those who verify."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from opt_api.canonical import digest
from opt_dataprep.dedup.cluster_stage import candidates_of_part
from opt_dataprep.dedup.numbering import bases
from opt_dataprep.dedup.shingles import Shingler, shingle_set
from opt_dataprep.dedup.sketch_stage import near_settings, near_tasks
from opt_dataprep.steps.documents import read_texts
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import commits_of, result_digest
from opt_dataprep.work.stage import Stage, Task

SETS, MEMBERS = "sets.bin", "members.bin"
MEMBER = np.dtype([("number", "<u8"), ("component", "<u8"), ("length", "<u4"), ("shingles", "<u4")])
"""A candidate: its number, component, text in bytes, and size of its shingle set."""


def _inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    return {
        "read": result_digest(preparation, "read", index),
        "candidates": digest(candidates_of_part(preparation, index).tobytes()),
        "shingle": near_settings(preparation).shingle_words,
    }


def _run(task: Task) -> dict[str, Any]:
    candidates = candidates_of_part(task.preparation, task.index)
    members = np.zeros(len(candidates), MEMBER)
    members["number"], members["component"] = candidates["number"], candidates["component"]
    sets: list[NDArray[np.uint64]] = []
    for at, (length, found) in enumerate(_sets(task.preparation, task.index, candidates)):
        members["length"][at], members["shingles"][at] = length, len(found)
        sets.append(found)
    order = np.argsort(candidates["bin"], kind="stable")
    task.emit(MEMBERS, [members[order].tobytes()])
    task.emit(SETS, [sets[at].tobytes() for at in order] or [b""])
    return {"bins": _bins(candidates["bin"][order], members["shingles"][order].astype(np.int64))}


def _sets(
    preparation: Preparation, part: int, candidates: NDArray[np.void]
) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """Yield (text in bytes, shingle set) of each candidate."""
    if not len(candidates):
        return
    shingler = Shingler(near_settings(preparation).shingle_words)
    rows = candidates["number"].astype(np.int64) - bases(preparation)[part]
    for first, batch in read_texts(preparation, commits_of(preparation, "read")[part], ["bytes", "text"]):
        inside = rows[(rows >= first) & (rows < first + batch.num_rows)] - first
        shingles, offsets = shingler.shingle(batch["text"].take(pa.array(inside, pa.int64())))
        for at, row in enumerate(inside):
            yield batch["bytes"][int(row)].as_py(), shingle_set(shingles[offsets[at] : offsets[at + 1]])


def _bins(bins: NDArray[np.uint32], sizes: NDArray[np.int64]) -> dict[str, list[int]]:
    """Of each bin with members here: first and last member, first and last shingle."""
    ends = np.concatenate(([0], np.cumsum(sizes)))
    found = {}
    for name in np.unique(bins):
        low, high = np.searchsorted(bins, [name, name + 1])
        found[str(name)] = [int(low), int(high), int(ends[low]), int(ends[high])]
    return found


SHINGLE = Stage("shingle", "candidates' shingles", lambda p: near_tasks(p, len(p.plan.parts)), _inputs, _run)
