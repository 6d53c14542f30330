"""Writes behind the coordinator's back: order, a store that is away, a rival."""

import threading
from pathlib import Path

import pytest

from opt_runtime.records.journal import RuntimeEvent, journal_of
from opt_runtime.records.scribe import Scribe
from opt_store import open_store

pytestmark = pytest.mark.unit


def test_writes_wait_for_a_store_that_is_away_and_keep_their_order(tmp_path: Path) -> None:
    root = tmp_path / "volume"
    journal = journal_of(open_store(root.as_uri()), "r")
    scribe = Scribe(retry_s=0.01)
    for number in range(5):
        scribe.put(lambda step=number: journal.append(lambda n: progress(n, step), alone=True))
    assert not scribe.flush(0.2), "the folder does not exist yet"
    root.mkdir()
    assert scribe.close(10)
    assert [e.step for e in journal_of(open_store(root.as_uri()), "r").read()] == [0, 1, 2, 3, 4]


def test_a_rival_stops_the_writing(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    mine, rival = journal_of(store, "r"), journal_of(store, "r")
    rival.append(lambda n: progress(n, 1, "rival"))
    scribe = Scribe(retry_s=0.01)
    scribe.put(lambda: mine.append(lambda n: progress(n, 2), alone=True))
    assert scribe.replaced.wait(10)
    scribe.put(lambda: mine.append(lambda n: progress(n, 3)))
    scribe.close(10)
    assert [e.writer for e in journal_of(store, "r").read()] == ["rival"]


def test_closing_a_scribe_with_an_unreachable_store_says_so(tmp_path: Path) -> None:
    journal = journal_of(open_store((tmp_path / "nowhere").as_uri()), "r")
    scribe = Scribe(retry_s=0.01)
    scribe.put(lambda: journal.append(lambda n: progress(n, 1)))
    assert not scribe.close(0.2)
    assert not [t for t in threading.enumerate() if t.name == "scribe"]


def progress(number: int, step: int, writer: str = "c1") -> RuntimeEvent:
    return RuntimeEvent(sequence=number, writer=writer, time=1.0, what="Progress", step=step)
