"""The same bytes, whatever the number of workers and whoever is killed."""

from __future__ import annotations

import random

import pytest

from opt_api.training.data import Deduplication, Source, Tokenizer, TrainedTokenizer
from opt_dataprep.work.driver import prepare
from support.corpora import library_texts, spec, write_jsonl, write_texts
from support.dataset_checker import check
from support.duplicates import planted
from support.kills import Killer, dataset_bytes


def corpus(folder, modules: int):
    texts = planted(library_texts(modules), 12, seed=2)
    write_jsonl(folder / "lines" / "a.jsonl", texts[::2])
    write_texts(folder / "files", texts[1::2])
    return spec(
        Source(name="lines", uri=(folder / "lines").as_uri(), weight=1.5),
        Source(name="files", uri=(folder / "files").as_uri()),
        deduplication=Deduplication(),
        part_bytes=1 << 20,
    )


def undisturbed(data, store) -> dict[str, bytes]:
    """The bytes of a data set that one worker made and nobody disturbed."""
    store.mkdir()
    check(prepare(data, store.as_uri(), workers=1).uri)
    return dataset_bytes(store)


@pytest.mark.integration
def test_one_two_and_seven_workers_killed_at_random_write_the_same_bytes(tmp_path):
    """kill -9 of a worker or of the driver; whoever comes after goes on. Fifty of them: the long test below."""
    data = corpus(tmp_path, 45)
    wanted = undisturbed(data, tmp_path / "reference")
    killer = Killer(data, tmp_path, random.Random(8))
    for workers, kills in ((1, 1), (2, 3), (7, 5)):
        finished = killer.run(kills, workers=workers, longest_wait_s=1.5)
        assert killer.drivers + killer.workers >= kills
        assert finished
        assert all(found == wanted for found in finished), f"{workers} workers"


@pytest.mark.long
def test_fifty_random_kills_change_nothing(tmp_path, capsys):
    data = corpus(tmp_path, 60)
    wanted = undisturbed(data, tmp_path / "reference")
    killer = Killer(data, tmp_path, random.Random(50))
    for workers, kills in ((1, 15), (2, 35), (7, 50)):
        finished = killer.run(kills, workers=workers, longest_wait_s=2.0)
        assert all(found == wanted for found in finished), f"{workers} workers"
        with capsys.disabled():
            print(f"\n{workers} workers: {len(finished)} data sets, {len(wanted)} equal objects each; so far")
            print(f"{killer.drivers} drivers and {killer.workers} workers killed")
    assert killer.drivers + killer.workers >= 50
    assert killer.drivers >= 5
    assert killer.workers >= 5


@pytest.mark.integration
def test_a_changed_setting_redoes_only_what_depends_on_it(tmp_path):
    data = corpus(tmp_path, 30)
    (tmp_path / "store").mkdir()
    store = (tmp_path / "store").as_uri()
    prepare(data, store, workers=2)

    def redone(changed) -> set[str]:
        events = []
        prepare(changed, store, workers=2, told=events.append)
        last = {event.stage: event for event in events if event.stage != "done"}
        return {stage for stage, event in last.items() if event.reused < event.tasks}

    packing = {"select", "scatter", "shards", "validation", "report", "manifest"}
    assert redone(data.model_copy(update={"sequence_length": 64})) == packing
    smaller = Tokenizer(train=TrainedTokenizer(vocabulary_size=400))
    assert redone(data.model_copy(update={"tokenizer": smaller})) == packing | {"tokenizer", "tokenise"}
    near = data.deduplication.near.model_copy(update={"threshold": 0.9})
    lower = data.model_copy(update={"deduplication": data.deduplication.model_copy(update={"near": near})})
    assert redone(lower) >= {"verify", "drops"}
    assert not redone(lower) & {"read", "exact", "sketch", "bands", "cluster", "shingle"}
    assert redone(data.model_copy(update={"workers": 9})) == set()


@pytest.mark.integration
def test_a_new_file_redoes_only_its_own_part(tmp_path):
    texts = library_texts(160)
    for i in range(3):
        write_jsonl(tmp_path / "src" / f"{i}.jsonl", texts[i * 40 : i * 40 + 40])
    (tmp_path / "store").mkdir()
    data = spec(Source(name="a", uri=(tmp_path / "src").as_uri()))
    prepare(data, (tmp_path / "store").as_uri(), workers=2)
    write_jsonl(tmp_path / "src" / "00.jsonl", texts[120:])
    events = []
    prepare(data, (tmp_path / "store").as_uri(), workers=2, told=events.append)
    last = {event.stage: event for event in events}
    fresh = last["read"].tasks - last["read"].reused
    assert 1 <= fresh < last["read"].reused
    assert last["read"].bytes_done > 2 * (tmp_path / "src" / "00.jsonl").stat().st_size
