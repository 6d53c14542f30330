"""A data set that does not fit is refused before the first step, with the two numbers that disagree."""

from __future__ import annotations

import pytest

from opt_api.documents.plan import Plan
from opt_store import digest_of_file, open_store
from opt_trainer.data.dataset import BadData, open_dataset
from opt_trainer.errors import BadSpec
from support.datasets import NO_DIGEST, write_dataset
from support.plans import tiny_plan

pytestmark = pytest.mark.unit


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return open_store((tmp_path / "store").as_uri())


def plan() -> Plan:
    return tiny_plan(model={"vocabularySize": 1000})


def test_a_fitting_data_set_opens(store, tmp_path):
    manifest = write_dataset(store, "data")
    dataset = open_dataset(store, "data/manifest.json", tmp_path / "c", plan(), manifest.digest())
    assert dataset.digest == manifest.digest()
    assert len(dataset.train()) == 12
    assert {name: len(blocks) for name, blocks in dataset.validation().items()} == {"books": 2, "manual": 3}


def test_the_tokenizer_is_fetched_under_its_usual_names(store, tmp_path):
    manifest = write_dataset(store, "data")
    folder = open_dataset(store, "data/manifest.json", tmp_path / "c", plan()).tokenizer()
    assert digest_of_file(folder / "vocab.json") == manifest.tokenizer.vocab.digest
    assert digest_of_file(folder / "merges.txt") == manifest.tokenizer.merges.digest


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"sequence_length": 8}, "blocks hold 9 tokens, sequenceLength 16 needs 17"),
        ({"vocabulary": 1001}, "vocabulary has 1001 entries, the model's embedding 1000 rows"),
        ({"train": ()}, "found 0 training blocks, at least 1 is needed"),
    ],
)
def test_what_does_not_fit_is_named_with_both_numbers(store, tmp_path, made, message):
    write_dataset(store, "data", **made)
    with pytest.raises(BadData, match=message):
        open_dataset(store, "data/manifest.json", tmp_path / "c", plan())


def test_a_disk_without_room_for_all_that_a_run_needs_is_refused_with_both_numbers(store, tmp_path):
    manifest = write_dataset(store, "data")
    size = sum(shard.size for shard in manifest.shards)
    with pytest.raises(BadSpec, match=rf"shards have {size} bytes.*ephemeralStorage is {size}; raise it to 1Mi"):
        open_dataset(store, "data/manifest.json", tmp_path / "c", plan(), disk=size)
    open_dataset(store, "data/manifest.json", tmp_path / "c", plan(), disk=size * 2)


def test_a_short_run_opens_what_it_may_need_little_of_and_stops_at_its_bound(store, tmp_path):
    manifest = write_dataset(store, "data")
    size = sum(shard.size for shard in manifest.shards)
    short = tiny_plan(model={"vocabularySize": 1000}, optimisation={"totalTokens": 128, "warmupTokens": 0})
    dataset = open_dataset(store, "data/manifest.json", tmp_path / "c", short, disk=size)
    with pytest.raises(BadSpec, match=r"a host has \d+ for them, which is 90% of its disk"):
        dataset.cache.fetch(manifest.shards)


def test_a_manifest_that_lost_a_shard_is_refused(store, tmp_path):
    manifest = write_dataset(store, "data")
    store.put("data/manifest.json", manifest.model_copy(update={"shards": manifest.shards[1:]}).to_bytes())
    with pytest.raises(BadData, match="shards hold 5 training blocks, the manifest says 12"):
        open_dataset(store, "data/manifest.json", tmp_path / "c", plan())


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"kind":"Plan","version":1}'])
def test_a_missing_or_foreign_manifest_is_refused(store, tmp_path, content):
    if content is not None:
        store.put("data/manifest.json", content)
    with pytest.raises(BadData, match=r"data/manifest\.json"):
        open_dataset(store, "data/manifest.json", tmp_path / "c", plan())


def test_another_digest_than_the_expected_one_is_refused(store, tmp_path):
    manifest = write_dataset(store, "data")
    with pytest.raises(BadData, match=rf"{manifest.digest()}.*{NO_DIGEST}"):
        open_dataset(store, "data/manifest.json", tmp_path / "c", plan(), NO_DIGEST)


def test_a_run_that_opened_it_before_needs_no_store(store, tmp_path):
    written = write_dataset(store, "data")
    opened = open_dataset(store, "data/manifest.json", tmp_path / "shards", plan())
    store.delete("data/manifest.json")
    again = open_dataset(store, "data/manifest.json", tmp_path / "shards", plan(), again=True)
    assert again.digest == opened.digest == written.digest()
    with pytest.raises(BadData):
        open_dataset(store, "data/manifest.json", tmp_path / "shards", plan())
