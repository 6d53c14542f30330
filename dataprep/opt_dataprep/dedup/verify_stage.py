"""Stage `verify`: one bin of candidates, judged by their exact Jaccard similarity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from opt_dataprep.dedup.exact import DROP_RECORD, DROPS
from opt_dataprep.dedup.join import Member, keep_longest
from opt_dataprep.dedup.numbering import bases, by_part
from opt_dataprep.dedup.shingle_stage import MEMBER, MEMBERS, SETS
from opt_dataprep.dedup.sizes import add_sizes
from opt_dataprep.dedup.sketch_stage import near_settings, near_tasks
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import commits_of, facts, read_range, results_digest
from opt_dataprep.work.stage import Stage, Task

SHINGLE_BYTES = 8


def _count(preparation: Preparation) -> int:
    return int(facts(preparation, "cluster")[0]["bins"]) if near_tasks(preparation, 1) else 0


def _inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    return {
        "bin": index,
        "sets": results_digest(preparation, "shingle"),
        "read": results_digest(preparation, "read"),
        "threshold": near_settings(preparation).threshold,
    }


def _run(task: Task) -> dict[str, Any]:
    preparation = task.preparation
    members = _members(preparation, str(task.index))
    order = sorted(range(len(members)), key=lambda at: members[at].component)
    drops, sizes, compared, at = [], dict[str, int](), 0, 0
    while at < len(order):
        end = at
        while end < len(order) and members[order[end]].component == members[order[at]].component:
            end += 1
        result = keep_longest([members[i] for i in order[at:end]], near_settings(preparation).threshold)
        drops += result.drops
        compared += result.compared
        add_sizes(sizes, result.cluster_sizes())
        at = end
    records = np.array(sorted(drops), DROP_RECORD) if drops else np.zeros(0, DROP_RECORD)
    task.emit(DROPS, [records.tobytes()])
    parts = by_part(records["number"], bases(preparation))
    return {"dropped": len(records), "clusters": sizes, "compared": compared, "parts": parts}


def _members(preparation: Preparation, name: str) -> list[Member]:
    members: list[Member] = []
    for commit in commits_of(preparation, "shingle"):
        if name in commit.facts["bins"]:
            low, high, begin, end = commit.facts["bins"][name]
            size = MEMBER.itemsize
            rows = np.frombuffer(read_range(preparation, commit, MEMBERS, low * size, (high - low) * size), MEMBER)
            data = read_range(preparation, commit, SETS, begin * SHINGLE_BYTES, (end - begin) * SHINGLE_BYTES)
            members += _split(rows, np.frombuffer(data, "<u8"))
    return members


def _split(rows: NDArray[np.void], shingles: NDArray[np.uint64]) -> list[Member]:
    ends = np.cumsum(rows["shingles"].astype(np.int64))
    return [
        Member(number, component, length, shingles[end - count : end])
        for (number, component, length, count), end in zip(rows.tolist(), ends.tolist(), strict=True)
    ]


VERIFY = Stage("verify", "near duplicates", _count, _inputs, _run)
