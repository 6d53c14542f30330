"""Stage `scatter`: the blocks that begin in one part, cut and laid ready for the shards that they belong to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from opt_dataprep.packing.blocks import Span, block_schema, cut_blocks
from opt_dataprep.packing.permutation import Permutation
from opt_dataprep.packing.select_stage import tokens_per_block
from opt_dataprep.packing.stream import Segment, join, read_segment, segments
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import facts, results_digest
from opt_dataprep.work.scratch import anonymous_file
from opt_dataprep.work.stage import Stage, Task

SHARD_BYTES = 64 << 20
"""Tokens of one shard: large enough for a store, small enough to hold in memory while it is put together."""


def blocks_per_shard(preparation: Preparation) -> int:
    """Blocks of every shard but the last."""
    return max(1, SHARD_BYTES // (2 * tokens_per_block(preparation)))


def train_blocks(preparation: Preparation) -> int:
    """Blocks of the train split."""
    return int(facts(preparation, "select")[0]["trainBlocks"])


def _inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    return {
        "part": index,
        "tokens": results_digest(preparation, "tokenise"),
        "select": results_digest(preparation, "select"),
        "objects": [piece.object for piece in preparation.plan.parts[index].slices],
        "seed": preparation.plan.data.seed,
        "shard": blocks_per_shard(preparation),
    }


def _run(task: Task) -> dict[str, Any]:
    preparation = task.preparation
    width = tokens_per_block(preparation)
    order = Permutation(train_blocks(preparation), preparation.plan.data.seed)
    shards: list[list[int]] = []
    every = segments(preparation)
    for at, segment in enumerate(every):
        if segment.part != task.index:
            continue
        first = -(-segment.begin // width)
        last = min(-(-segment.end // width), train_blocks(preparation))
        if first >= last:
            continue
        span = _reaching(preparation, every, at, last * width)
        begins = np.arange(first, last, dtype=np.int64) * width - segment.begin
        places = order.forward(np.arange(first, last))
        shards.append(_write(task, f"blocks-{len(shards)}.arrow", span, begins, places))
    return {"shards": shards}


def _reaching(preparation: Preparation, every: list[Segment], at: int, end: int) -> Span:
    """The segment's documents, and as many of the next segments' as reach the stream's token `end`."""
    spans = [read_segment(preparation, every[at])]
    reached = every[at].end
    for following in every[at + 1 :]:
        if reached >= end:
            break
        spans.append(read_segment(preparation, following, end - reached))
        reached += len(spans[-1].tokens)
    return join(spans)


def _write(task: Task, name: str, span: Span, begins: Any, places: Any) -> list[int]:
    """Write a segment's blocks, one batch for each shard; return the shards' numbers."""
    width = tokens_per_block(task.preparation)
    targets = places // blocks_per_shard(task.preparation)
    numbers = np.unique(targets)
    schema = block_schema(width).append(pa.field("place", pa.uint64(), nullable=False))
    with anonymous_file() as (_, path):
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for number in numbers:
                chosen = np.flatnonzero(targets == number)
                batch = cut_blocks(span, begins[chosen], width)
                columns = [*batch.columns, pa.array(places[chosen], pa.uint64())]
                writer.write_batch(pa.record_batch(columns, schema=schema))
        task.emit(name, path)
    return [int(number) for number in numbers]


SCATTER = Stage("scatter", "blocks", lambda preparation: len(preparation.plan.parts), _inputs, _run)
