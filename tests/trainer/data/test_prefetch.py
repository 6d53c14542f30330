"""Shards that come behind the steps: whatever the store does, whoever reads one is told, and nobody else."""

from __future__ import annotations

import pytest

from opt_store import Unavailable, open_store
from opt_trainer.data import prefetch
from opt_trainer.data.prefetch import Prefetch
from opt_trainer.data.shards import ShardCache
from opt_trainer.errors import BadHost
from support.datasets import write_dataset

pytestmark = pytest.mark.unit


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return open_store((tmp_path / "store").as_uri())


@pytest.fixture
def shards(store):
    return write_dataset(store, "data").shards


class Flaky(ShardCache):
    """A cache that fails with each fault once, in order, before it fetches."""

    def __init__(self, store, folder, *faults):
        super().__init__(store, "data/", folder)
        self.faults, self.asked = list(faults), []

    def path(self, shard, progress=None):
        self.asked.append(shard.key)
        if self.faults:
            raise self.faults.pop(0)
        return super().path(shard, progress)


def _files(folder):
    return {path.stem for path in folder.glob("*.arrow")}


def _names(shards):
    return {shard.digest.partition(":")[2] for shard in shards}


def test_all_come(store, shards, tmp_path):
    assert Prefetch(ShardCache(store, "data/", tmp_path / "cache"), shards).wait(30)
    assert _files(tmp_path / "cache") == _names(shards)


def test_a_store_that_was_away_is_asked_again(store, shards, tmp_path, monkeypatch):
    monkeypatch.setattr(prefetch, "AGAIN_S", 0.01)
    cache = Flaky(store, tmp_path / "cache", Unavailable("away"), Unavailable("away"))
    assert Prefetch(cache, shards).wait(30)
    assert cache.asked[:3] == [shards[0].key] * 3
    assert _files(tmp_path / "cache") == _names(shards)


def test_a_rotten_shard_keeps_no_other_away(store, shards, tmp_path):
    store.put(f"data/{shards[0].key}", b"rotten")
    assert Prefetch(ShardCache(store, "data/", tmp_path / "cache"), shards).wait(30)
    assert _files(tmp_path / "cache") == _names(shards) - _names(shards[:1])


def test_a_full_disk_is_left_to_whoever_reads(store, shards, tmp_path):
    assert Prefetch(Flaky(store, tmp_path / "cache", BadHost("no room")), shards).wait(30)
    assert _files(tmp_path / "cache") == _names(shards[1:])


def test_closed_while_the_store_is_away_it_ends(store, shards, tmp_path):
    ahead = Prefetch(Flaky(store, tmp_path / "cache", *[Unavailable("away")] * 100), shards)
    ahead.close()
    assert ahead.wait(30)
    assert _files(tmp_path / "cache") == set()
