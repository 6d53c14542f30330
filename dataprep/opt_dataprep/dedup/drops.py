"""Stage `drops`: what each part loses to duplicates, so that a later step reads a few bytes about its own part."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from opt_api.canonical import digest
from opt_dataprep.dedup.exact import DROP_RECORD, DROPS
from opt_dataprep.dedup.numbering import bases
from opt_dataprep.dedup.runs import Records
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import commits_of, facts, read_range, results_digest
from opt_dataprep.work.stage import Stage, Task

ROWS = "rows.bin"
KINDS = ("exact", "verify")
"""Stages that drop documents, and by whose name these are counted."""
DROPPED = np.dtype([("row", "<u4"), ("kind", "u1")])
"""A dropped row of a part, and the place of its kind in `KINDS`."""
REASONS = {"exact": "exact_duplicate", "verify": "near_duplicate"}


def _inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    return {kind: results_digest(preparation, kind) for kind in ("read", *KINDS)}


def _run(task: Task) -> dict[str, Any]:
    preparation = task.preparation
    starts = bases(preparation)
    rows, offsets = [], [0]
    counts: dict[str, list[int]] = {kind: [] for kind in KINDS}
    digests = []
    for part, base in enumerate(starts[:-1]):
        found = {kind: drops_of_part(preparation, kind, part) for kind in KINDS}
        merged = _merged([drops["number"] - np.uint64(base) for drops in found.values()])
        rows.append(merged)
        offsets.append(offsets[-1] + len(merged))
        digests.append(digest(rows[-1].tobytes()))
        for kind, drops in found.items():
            counts[kind].append(len(drops))
    task.emit(ROWS, [np.concatenate(rows).tobytes()])
    return {"offsets": offsets, "digests": digests, **{REASONS[kind]: counts[kind] for kind in KINDS}}


def _merged(rows_of_kinds: list[NDArray[np.uint64]]) -> NDArray[np.void]:
    """Rows dropped by any stage, sorted, each with the number of its kind; no row is dropped twice."""
    merged = np.zeros(sum(map(len, rows_of_kinds)), DROPPED)
    merged["row"] = np.concatenate(rows_of_kinds)
    merged["kind"] = np.repeat(np.arange(len(rows_of_kinds)), [len(rows) for rows in rows_of_kinds])
    return merged[np.argsort(merged["row"], kind="stable")]


def drops_of_part(preparation: Preparation, kind: str, part: int) -> Records:
    """Return the drop records of one part from every task of a stage."""
    pieces = [np.zeros(0, DROP_RECORD)]
    for commit in commits_of(preparation, kind):
        begin, end = commit.facts["parts"][part : part + 2]
        size = DROP_RECORD.itemsize
        pieces.append(
            np.frombuffer(read_range(preparation, commit, DROPS, begin * size, (end - begin) * size), DROP_RECORD)
        )
    return np.concatenate(pieces)


def dropped_rows(preparation: Preparation, part: int) -> NDArray[np.void]:
    """Rows of a part that were dropped as duplicates, sorted, with their kinds; see `DROPPED`."""
    (commit,) = commits_of(preparation, "drops")
    begin, end = commit.facts["offsets"][part : part + 2]
    size = DROPPED.itemsize
    return np.frombuffer(read_range(preparation, commit, ROWS, begin * size, (end - begin) * size), DROPPED)


def drops_digest(preparation: Preparation, part: int) -> str:
    """Digest of `dropped_rows`."""
    return str(facts(preparation, "drops")[0]["digests"][part])


DROPS_STAGE = Stage("drops", "duplicates of each part", lambda preparation: 1, _inputs, _run)
