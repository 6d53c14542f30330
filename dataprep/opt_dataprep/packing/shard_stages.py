"""Stages `shards` and `validation`: the finished Arrow files of both splits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from opt_dataprep.packing.blocks import Span, batch_of, block_schema, places, rearrange
from opt_dataprep.packing.documents import load_documents
from opt_dataprep.packing.scatter_stage import blocks_per_shard, train_blocks
from opt_dataprep.packing.select_stage import held_out_rows, tokens_per_block
from opt_dataprep.packing.stream import join, span_of
from opt_dataprep.sources.range_file import RangeFile
from opt_dataprep.tokens.vocabulary import PADDING
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import commits_of, entry, facts, results_digest
from opt_dataprep.work.scratch import anonymous_file
from opt_dataprep.work.stage import Stage, Task


def _shard_count(preparation: Preparation) -> int:
    return -(-train_blocks(preparation) // blocks_per_shard(preparation))


def _inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    return {"index": index, "dataset": preparation.identity, "blocks": results_digest(preparation, "scatter")}


def _run(task: Task) -> dict[str, Any]:
    preparation, width = task.preparation, tokens_per_block(task.preparation)
    first = task.index * blocks_per_shard(preparation)
    blocks = min(blocks_per_shard(preparation), train_blocks(preparation) - first)
    tokens = np.zeros((blocks, width), np.uint16)
    documents: list[Any] = []
    order, taken = np.full(blocks, -1, np.int64), 0
    for batch in _batches(preparation, task.index):
        where = batch["place"].to_numpy().astype(np.int64) - first
        column: Any = batch["tokens"]
        tokens[where] = column.flatten().to_numpy().reshape(-1, width)
        order[where] = np.arange(taken, taken + len(where))
        taken += len(where)
        # A copy: the column itself would keep the whole batch, tokens included, in memory.
        documents.append(rearrange(batch["documents"], np.arange(batch.num_rows)))
    assert (order >= 0).all(), "every place of a shard is filled by exactly one block"
    batch = batch_of(tokens, rearrange(pa.concat_arrays(documents), order), width)
    publish(task, f"shards/train-{task.index:05d}.arrow", batch)
    return {"first": first, "blocks": blocks}


def _batches(preparation: Preparation, shard: int) -> Iterator[pa.RecordBatch]:
    for commit in commits_of(preparation, "scatter"):
        for number, shards in enumerate(commit.facts["shards"]):
            if shard in shards:
                found = entry(commit, f"blocks-{number}.arrow")
                source = RangeFile(preparation.store, f"{preparation.prefix}/{found.key}", found.size)
                yield pa.ipc.open_file(pa.PythonFile(source, mode="r")).get_batch(shards.index(shard))


def publish(task: Task, name: str, batch: pa.RecordBatch) -> None:
    """Write one shard: a single record batch, uncompressed, so that a block is one place in the file."""
    data = task.preparation.plan.data
    metadata = {
        "opt.tokens_per_block": str(data.sequence_length + 1),
        "opt.sequence_length": str(data.sequence_length),
        "opt.layout": "blocks of sequence_length + 1 tokens that do not overlap; inputs [:-1], targets [1:]",
        "opt.plan": task.preparation.identity,
    }
    schema = block_schema(data.sequence_length + 1).with_metadata(metadata)
    with anonymous_file() as (_, path):
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(batch.replace_schema_metadata(metadata))
        task.publish(name, path)


def _validation_inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    return {
        "source": index,
        "dataset": preparation.identity,
        "tokens": results_digest(preparation, "tokenise"),
        "select": results_digest(preparation, "select"),
    }


def _run_validation(task: Task) -> dict[str, Any]:
    preparation, width = task.preparation, tokens_per_block(task.preparation)
    spans = list(_held_spans(preparation, task.index))
    if not spans:
        return {"blocks": [], "tokens": 0}
    span = join(spans)
    count = -(-len(span.tokens) // width)
    padded = np.full(count * width, PADDING, np.uint16)
    padded[: len(span.tokens)] = span.tokens
    begins = np.arange(count, dtype=np.int64) * width
    documents = places(span, begins, width)
    sizes, step = [], blocks_per_shard(preparation)
    for number, at in enumerate(range(0, count, step)):
        tokens = padded.reshape(count, width)[at : at + step]
        batch = batch_of(tokens, rearrange(documents, np.arange(at, at + len(tokens))), width)
        publish(task, f"shards/validation-{task.index:02d}-{number:05d}.arrow", batch)
        sizes.append(len(tokens))
    return {"blocks": sizes, "tokens": len(span.tokens)}


def _held_spans(preparation: Preparation, source: int) -> Iterator[Span]:
    counts = facts(preparation, "select")[0]["validation"]
    for index, part in enumerate(preparation.plan.parts):
        if part.source == source and counts[index][0]:
            documents = load_documents(preparation, index)
            for row in held_out_rows(preparation, index):
                yield span_of(preparation, index, documents, np.array([row]))


SHARDS = Stage("shards", "train shards", _shard_count, _inputs, _run)
VALIDATION = Stage(
    "validation",
    "validation shards",
    lambda preparation: len(preparation.plan.data.sources or ()),
    _validation_inputs,
    _run_validation,
)
