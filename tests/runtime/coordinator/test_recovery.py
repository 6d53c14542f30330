"""The seconds of a recovery, phase by phase, as its logbook entry has them."""

import pytest

from opt_api.documents.logbook import LogbookEntry
from opt_runtime.coordinator.recovery import Recovery
from opt_runtime.core.actions import Restore, StartAttempt
from opt_runtime.messages import Stack
from opt_runtime.records.logbook import entry_of
from support.gang_views import beat

pytestmark = pytest.mark.unit
START = StartAttempt(2, ("h0", "h1"), Restore(20, {0: "h0", 1: "h1"}), 1, "WorkerKilled", ("rank 1 ended",))


def test_phases_add_up_and_lost_steps_are_counted() -> None:
    recovery = Recovery(START, last_progress=10.0, decided=10.5, reached=21)
    for at, section, step in ((11.0, "init", 0), (11.25, "load", 20), (12.0, "data", 20), (12.5, "step", 20)):
        assert not recovery.hear(beat(0, step, section=section), at)
    assert recovery.hear(beat(0, 21), 13.0)
    entry = entry_of("r", **recovery.entry())(1)
    assert isinstance(entry, LogbookEntry)
    assert entry.seconds == {
        "detect": 0.5, "reschedule": 0.5, "init_and_load": 1.0, "first_step": 1.0, "in_all": 3.0,
    }  # fmt: skip
    assert (entry.steps_lost, entry.from_step, entry.to_step, entry.rung) == (1, 21, 20, 1)


def test_a_recovery_that_failed_is_written_as_far_as_it_came() -> None:
    recovery = Recovery(START, last_progress=10.0, decided=10.5, reached=21)
    recovery.hear(beat(0, 0, section="init"), 11.0)
    entry = entry_of("r", **recovery.entry())(1)
    assert set(entry.seconds) == {"detect", "reschedule"}
    assert entry.to_step is None


def test_from_the_store_the_first_word_after_loading_says_where_it_begins() -> None:
    recovery = Recovery(StartAttempt(2, ("h0",), Restore(), 3, "HostLost"), 10.0, 10.0, reached=90)
    recovery.hear(beat(0, 0, section="load"), 11.0)
    recovery.hear(beat(0, 50, section="data"), 12.0)
    assert recovery.hear(beat(0, 51), 13.0)
    assert recovery.entry()["steps_lost"] == 40


def test_stacks_collected_for_it_are_evidence() -> None:
    recovery = Recovery(START, 10.0, 10.5, reached=21)
    recovery.take_stacks(
        [Stack(rank=1, before_attempt=2, text="in forward"), Stack(rank=0, before_attempt=1, text="old")]
    )
    assert recovery.entry()["evidence"] == ("rank 1 ended", "stack of rank 1:\nin forward")
