"""Corrupt any byte of any object of a checkpoint: it is caught, marked, told, and the one before is taken."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from opt_api.documents.keys import checkpoint_prefix, logbook_prefix, mark_key
from opt_api.documents.logbook import LogbookEntry
from opt_trainer.checkpoint.catalog import catalog
from opt_trainer.checkpoint.contents import open_contents
from opt_trainer.checkpoint.errors import BadCheckpoint, NoGoodCheckpoint
from opt_trainer.checkpoint.verify import problems_of
from support.checkpoints import RUN, blank, boxes, restorer, same_bits, save_all, store_in, whole_state

PREFIX = checkpoint_prefix(RUN, 2, 1)
LOADED = [
    "manifest.json",
    *(f"rank-{rank:06d}.{kind}" for rank in range(2) for kind in ("safetensors", "index.json")),
]
"""Every object that a load of two ranks' checkpoint reads."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two checkpoints of two ranks each; step 2 is the one to be spoilt."""
    folder = tmp_path_factory.mktemp("saved") / "store"
    store_in(folder)
    for step in (1, 2):
        save_all(folder, whole_state(step), step, ranks=2)
    return folder


def objects(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted((folder / PREFIX).rglob("*")) if path.is_file()}


class Spoilt:
    """A file with one byte changed, in place, as a failing disk does it: the store's own records notice nothing new."""

    def __init__(self, path: Path, at: int, flip: int = 1) -> None:
        self.path, self.at, self.flip, self.sound = path, at, flip, path.read_bytes()

    def __enter__(self):
        data = bytearray(self.sound)
        data[self.at] ^= self.flip
        self.path.write_bytes(data)

    def __exit__(self, *_):
        self.path.write_bytes(self.sound)


def logbook(folder: Path) -> list[LogbookEntry]:
    store = store_in(folder)
    entries = [LogbookEntry.from_bytes(store.get(info.key)) for info in store.list(logbook_prefix(RUN))]
    assert [e.sequence for e in entries] == list(range(1, len(entries) + 1))
    return entries


def unpoison(folder: Path) -> None:
    store_in(folder).delete(mark_key(PREFIX, "Poisoned"))


@pytest.mark.integration
def test_the_objects_are_those_that_are_meant(saved):
    assert list(objects(saved)) == [
        "manifest.json",
        "Verified.json",
        "rank-000000.index.json",
        "rank-000000.safetensors",
        "rank-000001.index.json",
        "rank-000001.safetensors",
    ]
    assert problems_of(store_in(saved), PREFIX) == []


@pytest.mark.integration
@pytest.mark.parametrize("name", [*LOADED, "Verified.json"])
def test_the_full_check_finds_a_flip_anywhere(saved, name):
    path, draw = objects(saved)[name], random.Random(name)
    for at in sorted(draw.sample(range(path.stat().st_size), 60)):
        with Spoilt(path, at, 1 << draw.randrange(8)):
            assert problems_of(store_in(saved), PREFIX), f"byte {at} of {name}"


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [*LOADED, "Verified.json"])
def test_the_full_check_finds_every_byte_of_every_object(saved, name):
    path, store = objects(saved)[name], store_in(saved)
    size = path.stat().st_size
    for at in range(size):
        with Spoilt(path, at, 1 << at % 8):
            assert problems_of(store, PREFIX), f"byte {at} of {name}"
    assert problems_of(store, PREFIX) == []
    print(f"{name}: {size} bytes, each found")


@pytest.mark.integration
@pytest.mark.parametrize("index", [0, 1])
def test_every_byte_of_a_header_is_guarded(saved, index):
    path = objects(saved)[f"rank-{index:06d}.safetensors"]
    store = store_in(saved)
    contents = open_contents(store, PREFIX)
    for at in range(contents.manifest.objects[index].header_size):
        with Spoilt(path, at), pytest.raises(BadCheckpoint):
            contents.check(index)


@pytest.mark.integration
@pytest.mark.parametrize("name", LOADED)
def test_a_load_meets_no_wrong_byte_and_takes_the_one_before(saved, name):
    path, draw, before = objects(saved)[name], random.Random(name), len(logbook(saved))
    for at in sorted(draw.sample(range(path.stat().st_size), 25)):
        got = blank(whole_state(1))
        with Spoilt(path, at, 1 << draw.randrange(8)):
            taken = restorer(saved).restore(boxes(got))
        assert taken.state.step == 1, f"byte {at} of {name}"
        assert same_bits(got, whole_state(1))
        assert next(f for f in catalog(store_in(saved), RUN) if f.step == 2).marked("Poisoned")
        unpoison(saved)
    told = logbook(saved)[before:]
    assert len(told) == 25
    assert all(e.cause == "CheckpointPoisoned" and e.from_step == 2 for e in told)
    assert all(PREFIX in e.summary and name in e.evidence[0] for e in told)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["manifest.json", "rank-000000.safetensors", "rank-000000.index.json"])
@pytest.mark.parametrize(
    "change", [lambda d: d[:-1], lambda d: d + b"x", lambda d: b""], ids=["short", "long", "empty"]
)
def test_another_length_is_caught(saved, name, change):
    path = objects(saved)[name]
    sound = path.read_bytes()
    path.write_bytes(change(sound))
    try:
        assert restorer(saved).restore(boxes(blank(whole_state(1)))).state.step == 1
    finally:
        path.write_bytes(sound)
        unpoison(saved)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["rank-000001.safetensors", "rank-000001.index.json"])
def test_a_missing_object_is_caught(saved, name):
    path = objects(saved)[name]
    sound = path.read_bytes()
    path.unlink()
    try:
        assert restorer(saved).restore(boxes(blank(whole_state(1)))).state.step == 1
    finally:
        path.write_bytes(sound)
        unpoison(saved)


@pytest.mark.integration
def test_a_poisoned_one_is_passed_over_for_good_and_never_a_silent_new_start(tmp_path):
    folder = tmp_path / "store"
    store_in(folder)
    save_all(folder, whole_state(2), 2)
    path = objects(folder)["rank-000000.safetensors"]
    with Spoilt(path, path.stat().st_size - 1), pytest.raises(NoGoodCheckpoint, match="Poisoned marks"):
        restorer(folder).restore(boxes(blank(whole_state(2))))
    with pytest.raises(NoGoodCheckpoint):
        restorer(folder).restore(boxes(blank(whole_state(2))))
    unpoison(folder)
    assert restorer(folder).restore(boxes(blank(whole_state(2)))).state.step == 2
