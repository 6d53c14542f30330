"""Ranks of the real trainer that hang in a step or an evaluation, or are slow: found, named, made good."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.real_run import real_run, small_spec

pytestmark = pytest.mark.long


def is_stack(line: str) -> bool:
    """Whether it says where a rank slept that was told to hang."""
    return line.startswith("stack of rank") and "worker_faults.py" in line


def test_a_hanging_step_and_a_hanging_evaluation_are_found_by_their_deadlines(
    tmp_path: Path, text: str, real_twin
) -> None:
    spec = small_spec(resilience={"sectionDeadlines": {"step": 5, "eval": 3}})
    faults = ("hang rank 0 at step 30", "hang eval of rank 1 at step 50")
    with real_run(tmp_path, text, *faults, training=spec) as run:
        entries = run.until_finished()
        hangs = [entry for entry in entries if entry.cause == "Hang"]
        assert [entry.rung for entry in hangs] == [1, 1]
        assert all(entry.steps_lost <= 1 for entry in hangs)
        assert "in section step of step 29" in hangs[0].evidence[0]
        assert "in section eval of step 60" in hangs[1].evidence[0]
        assert all(any(is_stack(line) for line in entry.evidence) for entry in hangs)
        assert run.losses() == real_twin


def test_a_slow_rank_is_named_by_its_host_and_swapped_for_a_spare(tmp_path: Path, text: str, real_twin) -> None:
    spec = small_spec(resilience={"hostChecks": {"stragglerRatio": 1.5, "stragglerSteps": 20}})
    with real_run(tmp_path, text, "slow rank 1 at step 20", training=spec, spares=1, pace=0.02) as run:
        host = run.until(lambda s: s["step"] >= 10)["workers"][1]["host"]
        entries = run.until_finished()
        slow = next(entry for entry in entries if entry.cause == "Straggler")
        assert (slow.rung, slow.hosts[0].name, slow.hosts[0].verdict) == (2, host, "cause")
        assert f"host {host}: rank 1: own compute time" in slow.evidence[0]
        assert "x its peers' median, above 1.5 for" in slow.evidence[0]
        assert run.losses() == real_twin
