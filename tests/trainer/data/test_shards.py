"""Shards are fetched once, checked, and never served when they are not what the manifest says."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from opt_store import Corrupt, digest_of, open_store
from opt_trainer.data.shards import Blocks, ShardCache
from opt_trainer.errors import BadHost
from support.datasets import shard_bytes, tokens_of_block, write_dataset

pytestmark = pytest.mark.unit


@pytest.fixture
def data(tmp_path):
    (tmp_path / "store").mkdir()
    store = open_store((tmp_path / "store").as_uri())
    manifest = write_dataset(store, "data")
    return store, manifest, ShardCache(store, "data/", tmp_path / "cache")


def train_of(manifest):
    return [s for s in manifest.shards if s.split == "train"]


def test_every_block_is_read_from_its_shard(data):
    _, manifest, cache = data
    blocks = Blocks(cache, train_of(manifest), 17)
    wanted = [11, 0, 7, 6, 3]
    got = blocks.read(wanted)
    assert got.dtype == np.int64
    assert got.shape == (5, 17)
    assert np.array_equal(got, np.stack([tokens_of_block(b, 17, 1000) for b in wanted]))
    assert len(blocks) == 12


def test_a_shard_is_fetched_once(data):
    store, manifest, cache = data
    cache.fetch(train_of(manifest))
    for shard in train_of(manifest):
        store.delete(f"data/{shard.key}")
    assert Blocks(cache, train_of(manifest), 17).read([0, 8]).shape == (2, 17)


def test_progress_counts_every_byte_once(data):
    _, manifest, cache = data
    seen = []
    cache.fetch(train_of(manifest), lambda done, total: seen.append((done, total)))
    total = sum(s.size for s in train_of(manifest))
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)


def test_a_disk_without_room_is_the_hosts_fault(data):
    _, manifest, cache = data
    huge = train_of(manifest)[0].model_copy(update={"size": 1 << 60})
    with pytest.raises(BadHost, match=rf"it has {1 << 60} bytes, the disk of .* has \d+ free"):
        cache.path(huge)
    assert not list(cache._folder.glob("*.arrow*"))


def test_the_shards_of_a_batch_are_fetched_at_once(data):
    _, manifest, cache = data
    fetched, blocks = [], Blocks(cache, train_of(manifest), 17)
    blocks.fetch([0, 8, 1], lambda done, total: fetched.append((done, total)))
    assert fetched[-1] == (fetched[-1][1],) * 2 == (sum(s.size for s in train_of(manifest)),) * 2
    blocks.read([0, 8])
    blocks.fetch([0, 8], lambda *_: pytest.fail("what is open is not asked for again"))


def test_a_local_file_that_changed_is_fetched_anew(data):
    _, manifest, cache = data
    shard = train_of(manifest)[0]
    path = cache.path(shard)
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    assert cache.path(shard).read_bytes() == sound
    path.write_bytes(sound[:100])
    assert cache.path(shard).read_bytes() == sound
    path.with_suffix(".checked").unlink()
    assert cache.path(shard) == path


def test_a_local_file_that_was_only_touched_is_checked_not_fetched(data):
    store, manifest, cache = data
    shard = train_of(manifest)[0]
    path = cache.path(shard)
    store.delete(f"data/{shard.key}")
    os.utime(path, ns=(1, 1))
    assert digest_of(cache.path(shard).read_bytes()) == shard.digest


def test_a_wrong_object_in_the_store_is_refused(data):
    store, manifest, cache = data
    shard = train_of(manifest)[0]
    store.put(f"data/{shard.key}", b"something else")
    with pytest.raises(Corrupt, match=shard.key):
        cache.path(shard)
    assert not list(cache._folder.glob("*.arrow"))


def test_many_openers_at_once_get_the_same_file(data):
    _, manifest, cache = data
    shard = train_of(manifest)[0]
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: cache.path(shard), range(8)))) == 1


def test_a_shard_of_another_shape_is_refused(data):
    store, manifest, cache = data
    rows = np.zeros((7, 9), np.uint16)
    content = shard_bytes(rows)
    store.put("data/odd.arrow", content)
    shard = train_of(manifest)[0].model_copy(
        update={"key": "odd.arrow", "size": len(content), "digest": digest_of(content)}
    )
    with pytest.raises(Corrupt, match=r"uint16.*\[9\].*7 rows of .*\[17\]"):
        Blocks(cache, [shard], 17).read([0])


@pytest.mark.parametrize("block", [-1, 12])
def test_a_block_that_is_not_there(data, block):
    _, manifest, cache = data
    with pytest.raises(IndexError, match="blocks 0 to 11"):
        Blocks(cache, train_of(manifest), 17).read([block])
