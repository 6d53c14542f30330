"""What a step saw, document by document."""

from __future__ import annotations

import pytest

from opt_store import open_store
from opt_trainer.data.audit import documents_of_step, order_of
from opt_trainer.data.dataset import open_dataset
from support.datasets import write_dataset
from support.plans import tiny_plan


@pytest.fixture
def plan():
    return tiny_plan(model={"vocabularySize": 1000}, data={"skipBatches": [{"first": 3, "last": 3}]})


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    made = open_store((tmp_path / "store").as_uri())
    write_dataset(made, "data")
    return made


@pytest.mark.unit
def test_every_block_of_the_batch_is_traced_to_its_sources(store, plan, tmp_path):
    dataset = open_dataset(store, "data/manifest.json", tmp_path / "shards", plan)
    order = order_of(plan, dataset)
    seen = list(documents_of_step(dataset, order, 2))
    assert tuple(d.block for d in seen[::2]) == order.blocks(2)
    assert [d.row for d in seen] == [row for row in range(8) for _ in range(2)]
    assert {(d.source, d.uri) for d in seen} == {("manual", "file:///pages")}
    row = seen[0].block if seen[0].block < 7 else seen[0].block - 7  # shards of 7 and 5 blocks
    assert (seen[0].position, seen[0].start, seen[0].skipped) == (100 * row, 0, 5)
    assert (seen[1].position, seen[1].start, seen[1].skipped) == (100 * row + 50, 8, 0)
