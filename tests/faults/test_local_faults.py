"""Real processes, real faults: each run ends as one without faults would have, or in a pause that names its cause."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from opt_api.documents.logbook import LogbookEntry
from opt_runtime.local.cluster import wait_for
from support.local_run import local_run

pytestmark = pytest.mark.integration
STEPS = 500


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> dict[int, set[str]]:
    """The losses of a run without faults."""
    with local_run(tmp_path_factory.mktemp("twin"), STEPS, TINY_STEP_SECONDS="0") as run:
        run.until_finished()
        return run.losses()


def recoveries(entries: list[LogbookEntry]) -> list[tuple[str, int, int]]:
    return [(e.cause, e.rung, e.steps_lost) for e in entries if e.rung]


def test_ranks_coordinator_and_rendezvous_die_and_the_losses_are_the_twins(tmp_path: Path, twin) -> None:
    with local_run(tmp_path, STEPS) as run:
        run.until_step(20)
        run.signal_rank(1, signal.SIGKILL)
        run.until(lambda s: s["attempt"] == 2 and s["step"] >= 50)
        run.signal_rank(0, signal.SIGSTOP)
        run.until(lambda s: s["attempt"] == 3 and s["step"] >= 80)
        run.signal_program("coordinator")
        before = run.steps_written()
        assert wait_for(lambda: run.steps_written() >= before + 10, 30), "the gang goes on without its coordinator"
        run.until(lambda s: s["attempt"] == 3 and all(w["pid"] for w in s["workers"]))
        run.signal_program("rendezvous")
        assert wait_for(lambda: run.cluster.programs["rendezvous"].starts == 2, 30)
        run.until(lambda s: s["step"] >= 150)
        run.signal_rank(0, signal.SIGKILL)
        entries = run.until_finished()
        assert [(cause, rung) for cause, rung, _ in recoveries(entries)] == [
            ("WorkerKilled", 1),
            ("Hang", 1),
            ("WorkerKilled", 1),
        ]
        assert all(lost <= 1 for _, _, lost in recoveries(entries))
        hang = next(e for e in entries if e.cause == "Hang")
        assert "process state T" in hang.evidence[0]
        assert [e.cause for e in entries].count("CoordinatorLost") == 1
        assert run.losses() == twin


def test_a_lost_host_is_swapped_then_missed_then_welcomed_back(tmp_path: Path, twin) -> None:
    with local_run(tmp_path, STEPS, spares=1) as run:
        run.until(lambda s: s["step"] >= 20 and sum(a["state"] == "Spare" for a in s["agents"]) == 1)
        gang = {w["host"] for w in run.status()["workers"]}
        first, second = sorted(gang)
        run.signal_program(second)
        status = run.until(lambda s: s["attempt"] == 2 and s["step"] >= 60)
        assert next(a["state"] for a in status["agents"] if a["host"] == second) == "Suspect"
        run.signal_program(first)
        run.until(lambda s: s["pausedFor"] == "SparesSpent")
        run.cluster.host_returns(second)
        run.until(lambda s: s["attempt"] == 3)
        entries = run.until_finished()
        found = [(e.cause, e.rung) for e in entries if e.cause != "Started"]
        assert found == [("HostLost", 2), ("SparesSpent", 5), ("Resumed", 0), ("Completed", 0)]
        swap = next(e for e in entries if e.cause == "HostLost")
        assert swap.steps_lost <= 1
        assert any(word in swap.evidence[1] for word in ("refuses connections", "lost their connection"))
        assert run.losses() == twin, "the second start was from the beginning, and every loss was the same again"


def test_a_number_that_was_not_finite_once_is_a_machines_fault(tmp_path: Path, twin) -> None:
    with local_run(tmp_path, STEPS, TINY_NAN_STEP="60") as run:
        entries = run.until_finished()
        assert [e.cause for e in entries] == ["Started", "NonFinite", "SilentCorruption", "Completed"]
        assert entries[1].rung == 1
        assert run.losses() == twin


def test_a_step_that_always_fails_pauses_as_a_crash_loop_with_the_stack(tmp_path: Path) -> None:
    with local_run(tmp_path, STEPS, TINY_CRASH_STEP="30") as run:
        run.until(lambda s: s["pausedFor"] == "CrashLoop")
        assert wait_for(lambda: any(e.cause == "CrashLoop" for e in run.logbook()), 10)
        pause = next(e for e in run.logbook() if e.cause == "CrashLoop")
        assert pause.rung == 5
        assert "3 times" in pause.evidence[0]
        assert any("this step always fails" in line for line in pause.evidence)
        time.sleep(1.0)
        assert run.status()["attempt"] == 3, "a pause stays a pause"
