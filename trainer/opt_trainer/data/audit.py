"""Which documents a step saw: from the plan, the data set and a step number to source objects and places in them.

`python -m opt_trainer.data.audit --plan plan.json --dataset URI --work FOLDER --step 123` prints one JSON line for each
document of each block, in the order of the batch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from opt_api.documents.plan import Plan
from opt_store import open_store
from opt_trainer.data.dataset import Dataset, open_dataset
from opt_trainer.data.order import DataOrder


@dataclass(frozen=True, slots=True)
class SeenDocument:
    """A document, or a part of one, in a block of a batch.

    Attributes:
        row: Of the block in the batch.
        block: Index of the block in the train split.
        source, uri: Which source object it came from.
        position, length: Where in that object, as data preparation recorded it.
        start: First token of the block that belongs to it.
        skipped: How many of its tokens came before this block.
    """

    row: int
    block: int
    source: str
    uri: str
    position: int
    length: int
    start: int
    skipped: int


def documents_of_step(dataset: Dataset, order: DataOrder, step: int) -> Iterator[SeenDocument]:
    """Every document that the step's batch holds; also of a skipped batch, which is then what was left out."""
    blocks, sources = dataset.train(), dataset.manifest.sources
    for row, block in enumerate(order.blocks(step)):
        for place in blocks.documents(block):
            source = sources[place["object"]]
            where = {name: int(place[name]) for name in ("position", "length", "start", "skipped")}
            yield SeenDocument(row, block, source.source, source.uri, **where)


def main(arguments: Sequence[str]) -> None:
    """Print what one step saw."""
    p = argparse.ArgumentParser(prog="python -m opt_trainer.data.audit", description=__doc__)
    p.add_argument("--plan", type=Path, required=True, help="plan.json of the run")
    p.add_argument("--dataset", required=True, help="URI of the data set's manifest")
    p.add_argument("--work", type=Path, required=True, help="local folder for shards")
    p.add_argument("--step", type=int, required=True, help="optimiser step, from 1")
    given = p.parse_args(arguments)
    plan = Plan.from_bytes(given.plan.read_bytes())
    folder, _, name = given.dataset.rpartition("/")
    dataset = open_dataset(open_store(folder), name, given.work / "shards", plan)
    order = order_of(plan, dataset)
    for document in documents_of_step(dataset, order, given.step):
        sys.stdout.write(
            json.dumps({"step": given.step, "skipped_batch": order.skipped(given.step)} | asdict(document)) + "\n"
        )


def order_of(plan: Plan, dataset: Dataset) -> DataOrder:
    """The data order of a plan on a data set."""
    return DataOrder(dataset.manifest.train_blocks, plan.recipe.batch_sequences, plan.data.seed, plan.skip_batches)


if __name__ == "__main__":
    main(sys.argv[1:])
