"""Stage `report`: gathers what the page shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from opt_api.canonical import canonical_json
from opt_dataprep.exclusion_shards import exclusion_tables
from opt_dataprep.packing.scatter_stage import train_blocks
from opt_dataprep.packing.select_stage import tokens_per_block
from opt_dataprep.report.page import Findings, Sample, page
from opt_dataprep.source_counts import source_counts
from opt_dataprep.sources.uris import object_uri
from opt_dataprep.steps.documents import read_texts
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import commits_of, facts, results_digest
from opt_dataprep.work.stage import Stage, Task

REPORT_FILE = "report.html"
SAMPLES, SAMPLE_CHARACTERS = 3, 1200
"""Documents shown of each source and each reason, and how much of each."""


def _inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    names = ("read", "exact", "verify", "drops", "tokenise", "select")
    return {"dataset": preparation.identity, **{name: results_digest(preparation, name) for name in names}}


def _run(task: Task) -> dict[str, Any]:
    task.publish(REPORT_FILE, [page(findings(task.preparation)).encode()])
    return {}


def findings(preparation: Preparation) -> Findings:
    """What the stages left, put together."""
    lengths: Counter[int] = Counter()
    for fact in facts(preparation, "tokenise"):
        lengths.update({int(power): count for power, count in fact["lengths"].items()})
    return Findings(
        identity=preparation.identity,
        counts=tuple(source_counts(preparation)),
        lengths=lengths,
        clusters={"Exact": _clusters(preparation, "exact"), "Near": _clusters(preparation, "verify")},
        checked=sum(fact["checked"] for fact in facts(preparation, "tokenise")),
        blocks=(train_blocks(preparation), tokens_per_block(preparation)),
        settings=dict(_settings(preparation)),
        kept=tuple(_kept(preparation)),
        dropped=tuple(_dropped(preparation)),
    )


def _clusters(preparation: Preparation, stage: str) -> dict[int, int]:
    sizes: Counter[int] = Counter()
    for fact in facts(preparation, stage):
        sizes.update({int(size).bit_length() - 1: count for size, count in fact["clusters"].items()})
    return dict(sizes)


def _settings(preparation: Preparation) -> Iterator[tuple[str, str]]:
    data = preparation.plan.data.wire()
    for name in ("sequenceLength", "seed", "normalisation", "quality", "language", "deduplication", "validation"):
        if name in data:
            yield name, canonical_json(data[name]).decode()
    yield "tokenizer", canonical_json(data["tokenizer"]).decode()
    for name, value in sorted(preparation.plan.code.items()):
        yield f"version of {name}", value


def _kept(preparation: Preparation) -> Iterator[Sample]:
    """The first documents of each source's first part."""
    plan, shown = preparation.plan, set[int]()
    for index, part in enumerate(plan.parts):
        if part.source in shown:
            continue
        shown.add(part.source)
        name = (plan.data.sources or ())[part.source].name
        for _, batch in read_texts(preparation, commits_of(preparation, "read")[index], ["slice", "position", "text"]):
            for row in batch.slice(0, SAMPLES).to_pylist():
                planned = plan.objects[part.slices[row["slice"]].object]
                yield Sample(name, object_uri(planned), row["position"], row["text"][:SAMPLE_CHARACTERS])
            break


def _dropped(preparation: Preparation) -> Iterator[Sample]:
    for reason, table in exclusion_tables(preparation):
        for row in table.slice(0, SAMPLES).to_pylist():
            uri = object_uri(preparation.plan.objects[row["object"]])
            yield Sample(reason, uri, row["position"], row["text"][:SAMPLE_CHARACTERS])


REPORT = Stage("report", "report", lambda preparation: 1, _inputs, _run)
