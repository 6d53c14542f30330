"""A state kept on the way is the journal's own, and only saves reading."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from opt_api.documents.live_change import LiveChange
from opt_api.documents.manifests import RunningValues
from opt_api.training.data import BatchRange
from opt_runtime.core.budget import Failure
from opt_runtime.core.hosts import HostLedger
from opt_runtime.records.journal import RuntimeEvent, event_key, journal_of
from opt_runtime.records.kept_state import EVERY, KEPT, KeptState, keep_state, remembered, states_prefix
from opt_runtime.records.replay import RunState, fold, replay
from opt_store import Store, open_store

pytestmark = pytest.mark.unit

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RICH = RunState(
    attempt=7,
    phase="paused",
    paused_for="SparesSpent",
    gang=("h0", "h1"),
    ledger=HostLedger().admit("m0", "h0")[0].apply("m0", "CheckStarted"),
    failures=(Failure(1.25, "HostLost", 41),),
    interventions=(30, 40),
    values=RunningValues(learning_rate=1e-4, clip=0.3, skip_batches=(BatchRange(first=1, last=2),)),
    changes=(LiveChange(sequence=1, at_step=50, clip=0.3, reason="spikes", who="ops", time=NOON),),
    goodput={"productive": 0.1 + 0.2},
    section_seconds={"step": 0.3},
    verified=frozenset({10, 20}),
    verified_at=99.5,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}")


def write(store: Store, count: int) -> list[RuntimeEvent]:
    """A journal, with states kept on the way as a coordinator keeps them."""
    journal, written, state = journal_of(store, "r"), list[RuntimeEvent](), RunState()
    for _ in range(count):
        written.append(journal.append(progress, alone=True))
        state = fold(state, written[-1])
        keep_state(store, "r", journal.number, state)
    return written


def progress(number: int) -> RuntimeEvent:
    return RuntimeEvent(sequence=number, writer="c1", time=float(number), what="Progress", step=number)


def test_a_state_survives_the_wire() -> None:
    assert KeptState.from_bytes(KeptState(sequence=EVERY, state=RICH).to_bytes()).state == RICH


def test_reading_begins_at_the_newest_state_and_writing_goes_on_after_the_last_event(store: Store) -> None:
    written = write(store, EVERY + 30)
    for number in range(1, EVERY + 1):
        store.delete(event_key("r", number))
    state, journal = remembered(store, "r")
    assert state == replay(written)
    assert journal.append(progress, alone=True).sequence == EVERY + 31


def test_few_states_are_kept(store: Store) -> None:
    for times in range(1, KEPT + 3):
        keep_state(store, "r", times * EVERY, RICH)
        keep_state(store, "r", times * EVERY + 1, RICH)
    kept = [info.key for info in store.list(states_prefix("r"))]
    assert kept == [f"runs/r/journal-states/{times * EVERY:09d}.json" for times in range(3, KEPT + 3)]


def test_a_state_that_cannot_be_read_costs_only_the_reading(store: Store) -> None:
    written = write(store, EVERY + 3)
    (kept,) = store.list(states_prefix("r"))
    store.put(kept.key, b'{"kind":"KeptState","version":2}')
    state, journal = remembered(store, "r")
    assert (state, journal.number) == (replay(written), EVERY + 3)


def test_a_run_that_never_began_has_an_empty_state(store: Store) -> None:
    state, journal = remembered(store, "r")
    assert (state, journal.number) == (RunState(), 0)
