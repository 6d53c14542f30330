"""Stage `read`: one part of the sources, read, normalised, judged, with a run of digests for exact duplicates."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from opt_api.documents.dataprep import Part
from opt_dataprep.dedup.runs import offsets_of
from opt_dataprep.sources import Rejected, read_part
from opt_dataprep.steps.cleaning import Cleaner
from opt_dataprep.steps.documents import TEXTS, TextWriter, digest_halves
from opt_dataprep.steps.exclusions import EXCLUDED, Exclusions
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.scratch import anonymous_file
from opt_dataprep.work.stage import Stage, Task

DIGESTS = "digests.run"
DIGEST_RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<u4")])


def _inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    plan = preparation.plan
    part = plan.parts[index]
    source = (plan.data.sources or ())[part.source]
    names = source.normalisation if source.normalisation is not None else plan.data.normalisation
    return {
        "objects": [plan.objects[s.object].wire() for s in part.slices],
        "slices": [[s.start, s.end] for s in part.slices],
        "textField": source.text_field,
        "normalisation": names,
        "quality": plan.data.quality.wire(),
        "language": plan.data.language and plan.data.language.wire(),
    }


def _run(task: Task) -> dict[str, Any]:
    plan = task.preparation.plan
    part = plan.parts[task.index]
    cleaner = Cleaner((plan.data.sources or ())[part.source], plan.data)
    exclusions = Exclusions()
    with anonymous_file() as (file, path):
        with TextWriter(file) as writer:
            facts = _documents(task, part, cleaner, writer, exclusions)
        file.flush()
        task.emit(TEXTS, path)
    run, offsets = digest_run(writer.digests)
    task.emit(DIGESTS, [run])
    task.emit(EXCLUDED, [exclusions.to_arrow()])
    return {**facts, "kept": len(writer.digests), "bytesKept": writer.bytes, "offsets": offsets}


def _documents(task: Task, part: Part, cleaner: Cleaner, writer: TextWriter, exclusions: Exclusions) -> dict[str, Any]:
    dropped: Counter[str] = Counter()
    documents = size = 0
    for found in read_part(task.preparation.plan, part):
        documents += 1
        size += found.length
        if isinstance(found, Rejected):
            reason: str | None = found.reason
            text = found.sample.decode("utf-8", "replace")
        else:
            cleaned = cleaner.clean(found.content)
            reason, text = cleaned.reason, cleaned.text
        if reason is None:
            assert not isinstance(found, Rejected)
            writer.add(found, text)
        else:
            dropped[reason] += 1
            exclusions.add(found.slice, found.position, found.length, reason, text)
    return {
        "documents": documents,
        "bytesRead": size,
        "dropped": dict(sorted(dropped.items())),
        "repaired": dict(sorted(cleaner.repaired.items())),
    }


def digest_run(digests: list[bytes]) -> tuple[bytes, list[int]]:
    """Return the sorted run of a part's 128-bit digests, and its range offsets."""
    run = np.zeros(len(digests), DIGEST_RECORD)
    if digests:
        run["high"], run["low"] = digest_halves(digests)
    run["row"] = np.arange(len(digests))
    run = run[np.lexsort((run["row"], run["low"], run["high"]))]
    return run.tobytes(), offsets_of(run["high"])


READ = Stage(
    name="read",
    title="read and clean",
    count=lambda preparation: len(preparation.plan.parts),
    inputs=_inputs,
    run=_run,
)
