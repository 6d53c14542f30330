"""Journal and logbook in a store: order, rivals, replay after a restart."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opt_api.documents.keys import logbook_key
from opt_runtime.core.goodput import GoodputLedger
from opt_runtime.records.journal import RuntimeEvent, event_key, journal_of
from opt_runtime.records.logbook import Logbook, entry_of
from opt_runtime.records.replay import FOLDS, RunState, fold, replay
from opt_runtime.records.series import Taken
from opt_store import Corrupt, Store, open_store

pytestmark = pytest.mark.unit


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path.as_uri())


def event(what: str, number: int = 1, writer: str = "c1", **more) -> RuntimeEvent:
    return RuntimeEvent(sequence=number, writer=writer, time=100.0 + number, what=what, **more)


HISTORY = [
    ("CoordinatorStarted", {}),
    ("HostSeen", {"hardware": "m0", "host": "h0"}),
    ("HostMarked", {"hardware": "m0", "host_event": "CheckStarted"}),
    ("HostMarked", {"hardware": "m0", "host_event": "CheckPassed"}),
    ("AttemptStarted", {"attempt": 1, "gang": ("h0",), "cause": "Started"}),
    ("HostMarked", {"hardware": "m0", "host_event": "Assigned"}),
    ("Progress", {"step": 40, "goodput": {"productive": 10.0, "init": 2.0}, "section_seconds": {"step": 0.5}}),
    ("Failed", {"cause": "HostLost", "step": 41}),
    ("HostMarked", {"hardware": "m0", "host_event": "Lost", "fault": True, "reason": "power"}),
    ("Paused", {"cause": "SparesSpent", "reason": "2 hosts of 3 are there"}),
]


def test_a_new_coordinator_knows_what_the_old_one_knew(store: Store) -> None:
    journal = journal_of(store, "r")
    for what, fields in HISTORY:
        journal.append(lambda n, what=what, fields=fields: event(what, n, **fields), alone=True)
    state = replay(journal_of(store, "r").read())
    assert (state.attempt, state.phase, state.paused_for) == (1, "paused", "SparesSpent")
    assert state.paused_words == "2 hosts of 3 are there"
    assert (state.highest_step, state.goodput) == (40, {"productive": 10.0, "init": 2.0})
    assert state.section_seconds == {"step": 0.5}
    assert [(f.cause, f.step) for f in state.failures] == [("HostLost", 41)]
    assert state.ledger.state("m0") == "Suspect"
    assert state.ledger.entries["m0"].faults == (109.0,)
    assert state.coordinators == 1


@given(st.integers(0, len(HISTORY)))
def test_replay_in_two_parts_is_replay_in_one(cut: int) -> None:
    events = [event(what, n + 1, **fields) for n, (what, fields) in enumerate(HISTORY)]
    state = replay(events[:cut])
    for later in events[cut:]:
        state = fold(state, later)
    assert state == replay(events)


def test_every_kind_of_event_has_a_fold() -> None:
    assert set(FOLDS) == set(RuntimeEvent.model_fields["what"].annotation.__args__)


def test_a_person_ends_any_pause(store: Store) -> None:
    paused = fold(RunState(phase="running"), event("Paused", cause="CrashLoop"))
    resumed = fold(paused, event("Resume"))
    assert (resumed.paused_for, resumed.suspend) == ("Suspended", False)


def test_the_second_coordinator_wins_and_the_first_finds_out(store: Store) -> None:
    first, second = journal_of(store, "r"), journal_of(store, "r")
    first.append(lambda n: event("CoordinatorStarted", n, "c1"), alone=True)
    assert len(list(second.read())) == 1
    second.append(lambda n: event("CoordinatorStarted", n, "c2"), alone=True)
    with pytest.raises(Taken, match="written by another"):
        first.append(lambda n: event("Completed", n, "c1"), alone=True)
    assert [e.writer for e in journal_of(store, "r").read()] == ["c1", "c2"]


def test_a_repeated_write_of_the_same_event_is_refused_not_doubled(store: Store) -> None:
    journal = journal_of(store, "r")
    journal.append(lambda n: event("CoordinatorStarted", n), alone=True)
    with pytest.raises(Taken):
        journal_of(store, "r").append(lambda n: event("Completed", n), alone=True)
    assert len(list(store.list("runs/r/journal/"))) == 1


def test_a_damaged_event_is_not_believed(store: Store, tmp_path: Path) -> None:
    journal_of(store, "r").append(lambda n: event("CoordinatorStarted", n))
    path = tmp_path / event_key("r", 1)
    info = path.stat()
    path.write_bytes(path.read_bytes().replace(b"c1", b"c9"))
    import os

    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    with pytest.raises(Corrupt):
        list(journal_of(store, "r").read())


def test_two_writers_of_the_logbook_lose_nothing(store: Store) -> None:
    mine, theirs = Logbook(store, "r"), Logbook(store, "r")
    for turn in range(3):
        mine.append(entry_of("r", attempt=1, cause="WorkerKilled", summary=f"mine {turn}"))
        theirs.append(entry_of("r", attempt=1, cause="LiveChange", summary=f"theirs {turn}", by="human", who="ops"))
    entries = Logbook(store, "r").read()
    assert [e.sequence for e in entries] == [1, 2, 3, 4, 5, 6]
    assert sorted(e.summary for e in entries) == sorted(f"{w} {t}" for w in ("mine", "theirs") for t in range(3))
    assert store.exists(logbook_key("r", 6))


def test_a_long_stack_is_cut_and_the_entry_kept(store: Store) -> None:
    Logbook(store, "r").append(entry_of("r", attempt=1, cause="Hang", summary="s" * 5000, evidence=("x" * 100_000,)))
    (entry,) = Logbook(store, "r").read()
    assert (len(entry.summary), len(entry.evidence[0])) == (1024, 32_000)


def test_goodput_survives_the_coordinator(store: Store) -> None:
    before = GoodputLedger()
    before.switch("h0", "productive", 0.0)
    journal_of(store, "r").append(lambda n: event("Progress", n, step=5, goodput=before.state(7.5)))
    after = GoodputLedger()
    after.carry(replay(journal_of(store, "r").read()).goodput, now=50.0)
    assert after.totals(50.0)["productive"] == after.wall(50.0) == 7.5


def test_an_event_of_an_older_coordinator_is_still_read() -> None:
    """As journals have them that were written before losses were kept."""
    old = (
        b'{"goodput":{"productive":4.5},"kind":"RuntimeEvent","sequence":7,"step":12,"time":3.0,"version":1,'
        b'"what":"Progress","writer":"1@2.0"}'
    )
    state = replay([RuntimeEvent.from_bytes(old)])
    assert (state.highest_step, dict(state.goodput), state.loss) == (12, {"productive": 4.5}, None)
