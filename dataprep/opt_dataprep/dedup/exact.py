"""Stage `exact`: documents with the same 128-bit digest of their normalised text; the first is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from opt_dataprep.dedup.numbering import bases, by_part
from opt_dataprep.dedup.runs import RANGES, Records, Run, equal_groups, merge
from opt_dataprep.dedup.sizes import add_sizes
from opt_dataprep.steps.read_stage import DIGEST_RECORD, DIGESTS
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import commits_of, results_digest
from opt_dataprep.work.stage import Stage, Task

DROPS = "drops.bin"
DROP_RECORD = np.dtype([("number", "<u8"), ("keeper", "<u8"), ("jaccard", "<f4")])
"""A dropped document, the kept one it repeats, and their similarity."""
_BYTES_PER_TASK = 16 << 30


def _count(preparation: Preparation) -> int:
    if not preparation.plan.data.deduplication.exact:
        return 0
    total = sum(part.size for part in preparation.plan.parts)
    return min(RANGES, 1 << max(0, (-(-total // _BYTES_PER_TASK) - 1).bit_length()))


def _inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    return {"task": [index, _count(preparation)], "read": results_digest(preparation, "read")}


def _run(task: Task) -> dict[str, Any]:
    preparation = task.preparation
    starts = bases(preparation)
    commits = commits_of(preparation, "read")
    runs = [Run(c, DIGESTS, 0, c.facts["offsets"], base) for c, base in zip(commits, starts, strict=False)]
    width = RANGES // _count(preparation)
    sizes: dict[str, int] = {}
    dropped = [np.zeros(0, DROP_RECORD)]
    for numbers, records in merge(preparation, runs, DIGEST_RECORD, task.index * width, (task.index + 1) * width):
        dropped.append(repeats(numbers, records, sizes))
    drops = np.concatenate(dropped)
    drops = drops[np.argsort(drops["number"], kind="stable")]
    task.emit(DROPS, [drops.tobytes()])
    return {"dropped": len(drops), "clusters": sizes, "parts": by_part(drops["number"], starts)}


def repeats(numbers: NDArray[np.uint64], records: Records, sizes: dict[str, int]) -> Records:
    """Return a drop record for every document but the first of each digest; count the clusters' sizes."""
    order = np.lexsort((numbers, records["low"], records["high"]))
    numbers, pairs = numbers[order], records[["high", "low"]][order]
    starts, lengths = equal_groups(pairs)
    add_sizes(sizes, lengths)
    drops = np.zeros(int((lengths - 1).sum()), DROP_RECORD)
    first = np.repeat(starts, lengths - 1)
    place = np.arange(len(drops)) - np.repeat(np.cumsum(lengths - 1) - (lengths - 1), lengths - 1)
    drops["number"], drops["keeper"], drops["jaccard"] = numbers[first + 1 + place], numbers[first], 1
    return drops


EXACT = Stage("exact", "exact duplicates", _count, _inputs, _run)
