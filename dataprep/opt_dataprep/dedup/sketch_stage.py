"""Stage `sketch`: a part's band keys as sorted runs, 12 bytes a document and band; the sketches are not kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from opt_api.training.data import NearDuplicates
from opt_dataprep.dedup.minhash import band_keys, sketch
from opt_dataprep.dedup.runs import offsets_of
from opt_dataprep.dedup.shingles import Shingler
from opt_dataprep.steps.documents import read_texts
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import commits_of, result_digest
from opt_dataprep.work.stage import Stage, Task

BANDS, SIZES = "bands.run", "sizes.bin"
BAND_RECORD = np.dtype([("key", "<u8"), ("row", "<u4")])
SIZE = np.dtype("<u4")


def near_settings(preparation: Preparation) -> NearDuplicates:
    """The settings of the near-duplicate stages."""
    return preparation.plan.data.deduplication.near


def near_tasks(preparation: Preparation, tasks: int) -> int:
    """`tasks`, or none when the near-duplicate stages are off."""
    return tasks if preparation.plan.data.deduplication.near_enabled else 0


def _inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    near = near_settings(preparation)
    return {
        "read": result_digest(preparation, "read", index),
        "shingle": near.shingle_words,
        "bands": [near.bands, near.rows],
    }


def _run(task: Task) -> dict[str, Any]:
    preparation, near = task.preparation, near_settings(task.preparation)
    shingler = Shingler(near.shingle_words)
    keys, sizes = [np.zeros((near.bands, 0), np.uint64)], [np.zeros(0, np.int64)]
    for _, batch in read_texts(preparation, commits_of(preparation, "read")[task.index], ["text"]):
        shingles, offsets = shingler.shingle(batch["text"])
        made = sketch(shingles, offsets, near.bands * near.rows, preparation.plan.code["minhash"])
        keys.append(band_keys(made, near.bands, near.rows))
        sizes.append(np.diff(offsets))
    task.emit(SIZES, [np.concatenate(sizes).astype(SIZE).tobytes()])
    runs, offsets_of_bands = [], []
    for band in np.concatenate(keys, axis=1):
        run = np.zeros(len(band), BAND_RECORD)
        order = np.argsort(band, kind="stable")
        run["key"], run["row"] = band[order], order
        runs.append(run.tobytes())
        offsets_of_bands.append(offsets_of(run["key"]))
    task.emit(BANDS, runs)
    return {"offsets": offsets_of_bands}


SKETCH = Stage("sketch", "near-duplicate sketches", lambda p: near_tasks(p, len(p.plan.parts)), _inputs, _run)
