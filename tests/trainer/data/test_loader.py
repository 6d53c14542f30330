"""Batches of a rank: the right rows for the step, whatever was asked before."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from opt_store import Corrupt, digest_of, open_store
from opt_trainer.data.dataset import Dataset
from opt_trainer.data.loader import BlockLoader
from opt_trainer.data.order import DataOrder
from opt_trainer.data.shards import ShardCache
from support.datasets import tokens_of_block, write_dataset

pytestmark = pytest.mark.unit


@pytest.fixture
def dataset(tmp_path):
    (tmp_path / "store").mkdir()
    store = open_store((tmp_path / "store").as_uri())
    manifest = write_dataset(store, "data")
    return Dataset(manifest, manifest.digest(), ShardCache(store, "data/", tmp_path / "cache"))


@pytest.fixture
def loaders(dataset):
    made = []

    def make(rank=0, ranks=1, batch=4):
        made.append(BlockLoader(dataset, DataOrder(12, batch, 9), rank, ranks))
        return made[-1]

    yield make
    for loader in made:
        loader.close()


def test_rows_are_the_blocks_of_the_step(loaders):
    loader, order = loaders(), DataOrder(12, 4, 9)
    for step in range(1, 8):
        batch = loader.next()
        assert batch.step == step
        assert batch.blocks == order.blocks(step)
        assert batch.rows.dtype == torch.int64
        assert np.array_equal(batch.rows.numpy(), np.stack([tokens_of_block(b, 17, 1000) for b in batch.blocks]))


def test_seek_is_all_a_resume_needs(loaders):
    straight, resumed = loaders(), loaders()
    series = [straight.next() for _ in range(20)]
    resumed.seek(13)
    for before in series[12:]:
        after = resumed.next()
        assert (after.step, after.blocks) == (before.step, before.blocks)
        assert torch.equal(after.rows, before.rows)
    resumed.seek(2)
    assert resumed.next().blocks == series[1].blocks


def test_uneven_shares_join_to_the_batch(loaders):
    whole = loaders(batch=5).next()
    parts = [loaders(rank, 3, batch=5).next() for rank in range(3)]
    assert sorted(len(p.blocks) for p in parts) == [1, 2, 2]
    assert torch.equal(torch.cat([p.rows for p in parts]), whole.rows)


def test_held_out_blocks_by_source_cover_each_once(loaders):
    parts = [list(loaders(rank, 2).validation("manual", 2, 10)) for rank in range(2)]
    rows = [torch.cat(pair) for pair in zip(*parts, strict=True)]
    assert [len(r) for r in rows] == [2, 1]
    expected = np.stack([tokens_of_block(b, 17, 1000, salt=1) for b in range(3)])
    assert np.array_equal(torch.cat(rows).numpy(), expected)
    assert [len(r) for r in loaders().validation("books", 1, 1)] == [1]
    assert loaders().sources == ("books", "manual")


def test_a_store_that_goes_away_later_is_missed_by_no_step_and_no_evaluation(dataset, loaders, tmp_path):
    """It had ended the worker: at the first evaluation, or at the first step with a shard that was not here."""
    loader, order = loaders(batch=2), DataOrder(12, 2, 9)
    loader.fetch(1)
    assert loader._prefetch.wait(30)
    shutil.rmtree(tmp_path / "store")
    assert [loader.next().blocks for _ in range(7)] == [order.blocks(step) for step in range(1, 8)]
    found = [block for source in loader.sources for part in loader.validation(source, 2, 10) for block in part]
    assert len(found) == sum(map(len, dataset.validation().values()))


def test_a_fault_of_the_reader_reaches_the_caller(dataset, loaders):
    shard = dataset.manifest.shards[1]
    dataset.cache._store.put(f"data/{shard.key}", b"rotten")
    loader = loaders(batch=12)
    with pytest.raises(Corrupt, match=digest_of(b"rotten")):
        loader.next()
