"""The real trainer loses ranks, hosts and memory, goes on from memory, and every number it records is its twin's."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from opt_api.documents.logbook import LogbookEntry
from support import hurt_worker
from support.memory_run import MemoryRun, Series, memory_plan, memory_run

pytestmark = pytest.mark.long
STEPS = 200
PACE_S = 0.05
"""Least time of a step while a test has something to do to the run; a spare may take a while to get ready."""
SHARDED: dict[str, Any] = {"hosts": 2}
SAVE_EVERY = 25


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Series:
    """The series of two sharded hosts without faults."""
    return series_without_faults(tmp_path_factory.mktemp("twin"), SHARDED)


def series_without_faults(folder: Path, parallelism: dict[str, Any]) -> Series:
    with memory_run(folder, memory_plan(STEPS, parallelism=parallelism)) as run:
        run.until_finished()
        return run.series()


def recoveries(entries: list[LogbookEntry]) -> list[tuple[str, int]]:
    return [(e.cause, e.rung) for e in entries if e.rung]


def lost_at_most_one(entries: list[LogbookEntry]) -> bool:
    return all(e.steps_lost <= 1 for e in entries if e.rung in (1, 2))


def kill_the_last_rank_and_then_the_host_of_the_first(run: MemoryRun, ranks: int) -> list[LogbookEntry]:
    run.until(lambda s: s["step"] >= 15 and sum(a["state"] == "Spare" for a in s["agents"]) == 1)
    run.signal_rank(ranks - 1, signal.SIGKILL)
    found = run.until(lambda s: s["attempt"] == 2 and s["step"] >= 40 and s["workers"])
    run.signal_program(next(worker["host"] for worker in found["workers"] if worker["rank"] == 0))
    return run.until_finished()


@pytest.mark.parametrize(
    "parallelism",
    [SHARDED, {"hosts": 2, "devicesPerHost": 2, "shard": 2}, {"hosts": 2, "devicesPerHost": 2, "shard": 1}],
    ids=["sharded", "hybrid", "replicated"],
)
def test_ranks_and_hosts_are_lost_and_the_numbers_are_the_twins(tmp_path: Path, parallelism, request) -> None:
    plan = memory_plan(STEPS, parallelism=parallelism)
    with memory_run(tmp_path / "run", plan, spares=1, pace=PACE_S) as run:
        entries = kill_the_last_rank_and_then_the_host_of_the_first(run, plan.layout.world_size)
        found = run.series()
    assert recoveries(entries) == [("WorkerKilled", 1), ("HostLost", 2)]
    assert lost_at_most_one(entries)
    expected = request.getfixturevalue("twin") if parallelism is SHARDED else None
    assert found == (expected or series_without_faults(tmp_path / "twin", parallelism))


def test_a_rank_alone_goes_on_from_its_own_memory(tmp_path: Path) -> None:
    plan = memory_plan(STEPS, parallelism={"hosts": 1})
    with memory_run(tmp_path / "run", plan, pace=PACE_S) as run:
        run.until_step(15)
        run.signal_rank(0, signal.SIGKILL)
        entries = run.until_finished()
        found = run.series()
    assert recoveries(entries) == [("WorkerKilled", 1)]
    assert lost_at_most_one(entries)
    assert found == series_without_faults(tmp_path / "twin", {"hosts": 1})


def test_torn_damaged_and_full_memory_cost_a_step_or_a_way_to_the_store(tmp_path: Path, twin) -> None:
    plan = memory_plan(STEPS, parallelism=SHARDED, save_every=SAVE_EVERY)
    with memory_run(tmp_path, plan, entry="support.hurt_worker:run") as run:
        entries = run.until_finished()
        found = run.series()
    assert recoveries(entries) == [("WorkerKilled", 1), ("WorkerKilled", 1), ("WorkerKilled", 3)]
    torn, flipped, starved = (e for e in entries if e.rung)
    assert (torn.to_step, torn.steps_lost) == (hurt_worker.TORN_AT - 1, 1), "the slot before the torn one"
    assert flipped.steps_lost <= 1, "the partner's copy"
    assert starved.to_step % SAVE_EVERY == 0, "a checkpoint"
    words = {e.cause: e.summary for e in entries if e.cause in ("SilentCorruption", "OutOfMemory")}
    assert "its bytes are not those that were written; taken from elsewhere" in words["SilentCorruption"]
    assert "has no place in memory" in words["OutOfMemory"]
    assert "recovery goes through the store" in words["OutOfMemory"]
    assert found == twin
