"""Which documents a step saw: from the plan, the data set and a step number to source objects and places in them.

`optctl audit NAME --step N` prints it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from opt_api.documents.plan import Plan
from opt_trainer.data.dataset import Dataset
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


def order_of(plan: Plan, dataset: Dataset) -> DataOrder:
    """The data order of a plan on a data set."""
    return DataOrder(dataset.manifest.train_blocks, plan.recipe.batch_sequences, plan.data.seed, plan.skip_batches)
