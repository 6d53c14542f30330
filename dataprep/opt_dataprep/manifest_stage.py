"""Stage `manifest`: counts, lineage and every object with its digest; written last, it makes the data set exist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from opt_api.canonical import digest_of
from opt_api.documents.manifests import (
    DatasetManifest,
    Lineage,
    ObjectEntry,
    ShardEntry,
    SourceEntry,
    TokenizerEntry,
)
from opt_dataprep.exclusion_shards import write_exclusions
from opt_dataprep.packing.scatter_stage import train_blocks
from opt_dataprep.packing.select_stage import tokens_per_block
from opt_dataprep.source_counts import source_counts
from opt_dataprep.sources.uris import object_uri
from opt_dataprep.tokens.tokenizer_stage import MERGES, VOCAB
from opt_dataprep.tokens.vocabulary import END_OF_DOCUMENT, PADDING
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import commits_of, facts, read, results_digest
from opt_dataprep.work.stage import Stage, Task
from opt_store import ObjectInfo, commit

_BEFORE = ("read", "drops", "tokenise", "select", "shards", "validation", "report")


def _inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    return {"dataset": preparation.identity, **{name: results_digest(preparation, name) for name in _BEFORE}}


def _run(task: Task) -> dict[str, Any]:
    preparation = task.preparation
    (tokenizer,) = commits_of(preparation, "tokenizer")
    for name in (VOCAB, MERGES):
        task.publish(f"tokenizer/{name}", [read(preparation, tokenizer, name)])
    write_exclusions(task)
    manifest = build_manifest(preparation, [_relative(o, preparation) for o in task.objects])
    assert manifest.plan is not None
    named = [manifest.plan, manifest.tokenizer.vocab, manifest.tokenizer.merges]
    named += [*manifest.shards, *manifest.exclusions, *([manifest.report] if manifest.report else [])]
    objects = [ObjectInfo(f"{preparation.dataset}/{o.key}", o.size, o.digest, o.digest) for o in named]
    commit(preparation.store, preparation.manifest_key, manifest.to_bytes(), objects)
    return {"digest": manifest.digest()}


def build_manifest(preparation: Preparation, published: list[ObjectEntry]) -> DatasetManifest:
    """Put the manifest together; `published` are the tokenizer's two files and the exclusion shards."""
    plan = preparation.plan
    shards = list(_shards(preparation))
    parts = Counter(piece.object for part in plan.parts for piece in part.slices)
    names = [source.name for source in plan.data.sources or ()]
    owner = {piece.object: names[part.source] for part in plan.parts for piece in part.slices}
    return DatasetManifest(
        sequence_length=plan.data.sequence_length,
        tokens_per_block=tokens_per_block(preparation),
        seed=plan.data.seed,
        parameters=digest_of({"data": plan.data.wire(), "code": plan.code}),
        tokenizer=TokenizerEntry(
            vocabulary_size=facts(preparation, "tokenizer")[0]["rows"],
            vocab=published[0],
            merges=published[1],
            end_of_document=END_OF_DOCUMENT,
            padding=PADDING,
        ),
        sources=tuple(
            SourceEntry(source=owner[i], uri=object_uri(o), etag=o.etag, size=o.size, parts=parts[i])
            for i, o in enumerate(plan.objects)
        ),
        counts=tuple(source_counts(preparation)),
        train_blocks=train_blocks(preparation),
        validation_blocks=sum(s.blocks for s in shards if s.split == "validation"),
        shards=tuple(shards),
        exclusions=tuple(published[2:]),
        plan=ObjectEntry(key="plan.json", size=len(plan.to_bytes()), digest=plan.digest()),
        report=_relative(commits_of(preparation, "report")[0].objects[0], preparation),
        lineage=Lineage(code_version=plan.code["opt-operator"] + "+" + plan.code["sources"], plan=plan.digest()),
    )


def _relative(found: ObjectEntry, preparation: Preparation) -> ObjectEntry:
    folder = preparation.dataset.removeprefix(f"{preparation.prefix}/") + "/"
    return found.model_copy(update={"key": found.key.removeprefix(folder)})


def _shards(preparation: Preparation) -> Iterator[ShardEntry]:
    for done in commits_of(preparation, "shards"):
        (found,) = done.objects
        yield ShardEntry(
            **_relative(found, preparation).model_dump(),
            split="train",
            blocks=done.facts["blocks"],
            first_block=done.facts["first"],
        )
    sources = preparation.plan.data.sources or ()
    for source, done in zip(sources, commits_of(preparation, "validation"), strict=True):
        first = 0
        for found, blocks in zip(done.objects, done.facts["blocks"], strict=True):
            yield ShardEntry(
                **_relative(found, preparation).model_dump(),
                split="validation",
                source=source.name,
                blocks=blocks,
                first_block=first,
            )
            first += blocks


MANIFEST = Stage("manifest", "manifest", lambda preparation: 1, _inputs, _run)
