"""The same with the real trainer on real text: what breaks is made good, or the pause names its cause."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from opt_api.resources import OPTTraining
from opt_runtime.local.cluster import wait_for
from support.real_run import STEPS, losses_in, real_run, small_spec

pytestmark = pytest.mark.long


def causes(entries) -> list[str]:
    return [entry.cause for entry in entries]


def recoveries(entries) -> list[tuple[str, int]]:
    return [(entry.cause, entry.rung) for entry in entries if entry.rung]


def test_killed_ranks_a_spoilt_gradient_and_a_lost_store_leave_no_trace_in_the_losses(
    tmp_path: Path, text: str, real_twin
) -> None:
    faults = (
        "kill rank 1 at step 20",
        "spoil gradient of rank 0 at step 60",
        "lose store at step 70 for 6 s",
        "kill rank 0 at step 80",
    )
    with real_run(tmp_path, text, *faults) as run:
        entries = run.until_finished()
        assert [fault for fault in faults if fault in run.happened] == list(faults)
        assert run.losses() == real_twin
        assert causes(entries).count("WorkerKilled") == 2
        assert "NonFinite" in causes(entries)
        corrupt = next(entry for entry in entries if entry.cause == "SilentCorruption")
        assert "run again from the same state" in corrupt.evidence[1]


def twin_of(folder: Path, text: str, spec: OPTTraining) -> dict[int, set[str]]:
    """Losses of a run to which nothing happens."""
    with real_run(folder, text, training=spec) as run:
        run.until_finished()
        return run.losses()


def test_a_flipped_bit_is_found_by_the_replicas_norms(tmp_path: Path, text: str) -> None:
    spec = small_spec(parallelism={"shard": 1})  # of shards there is no second to compare with
    real_twin = twin_of(tmp_path / "twin", text, spec)
    with real_run(tmp_path / "run", text, "flip weight of rank 1 at step 50", training=spec, pace=0.3) as run:
        entries = run.until_finished()
        found = next(entry for entry in entries if entry.cause == "SilentCorruption")
        assert "replicas disagree on their own parameter norm at step 50" in found.evidence[0]
        assert (found.rung, found.to_step) == (3, 40)
        losses = run.losses()
        assert {step: seen for step, seen in losses.items() if step < 50} == {s: real_twin[s] for s in range(1, 50)}
        assert losses[STEPS] == real_twin[STEPS]


def test_a_hanging_save_and_a_stopped_rank_are_found(tmp_path: Path, text: str, real_twin) -> None:
    deadlines = {"sectionDeadlines": {"save": 3, "step": 30}}
    spec = small_spec(resilience=deadlines)
    with real_run(tmp_path, text, "hang save of rank 1 at step 35", "stop rank 0 at step 90", training=spec) as run:
        entries = run.until_finished()
        hangs = [entry for entry in entries if entry.cause == "Hang"]
        assert "section save of step 40" in hangs[0].evidence[0]
        assert "rank 1" in hangs[0].evidence[0]
        assert "process state T" in hangs[1].evidence[0]
        assert run.losses() == real_twin


def test_a_smaller_gang_goes_on_with_the_same_data_and_grows_again(tmp_path: Path, text: str) -> None:
    spec = small_spec(steps=240, resilience={"minHosts": 1})
    real_twin = twin_of(tmp_path / "twin", text, spec)  # its learning rate falls over twice as many steps
    with real_run(tmp_path / "run", text, "kill host host-1 at step 30", training=spec) as run:
        run.until(lambda s: s["attempt"] >= 2 and s["step"] >= 60)
        assert {worker["host"] for worker in run.status()["workers"]} == {"host-0"}
        run.cluster.host_returns("host-1")
        run.until(lambda s: len(s["workers"]) == 2 and s["step"] >= 100)
        entries = run.until_finished()
        assert ("HostLost", 4) in recoveries(entries)
        grown = next(entry for entry in entries if entry.cause == "Resumed")
        assert "goes on with 2 hosts after 1" in grown.evidence[0]
        losses = {step: float.fromhex(next(iter(sorted(seen)))) for step, seen in run.losses().items()}
        twin = {step: float.fromhex(next(iter(seen))) for step, seen in real_twin.items()}
        assert sorted(losses) == list(range(1, 241))
        assert losses[28] == twin[28]
        assert losses[60] == pytest.approx(twin[60], rel=1e-4), "the same batches, added up in another order"


def test_a_run_that_is_deleted_but_for_its_store_goes_on(tmp_path: Path, text: str, real_twin) -> None:
    with real_run(tmp_path / "a", text) as run:
        run.until(lambda s: s["step"] >= 50 and 40 in s["checkpoints"])
    first = losses_in(tmp_path / "a")
    store = (tmp_path / "a/store").as_uri()
    shutil.rmtree(tmp_path / "a/run")
    with real_run(tmp_path / "b", text, store=store) as run:
        entries = run.until_finished()
        assert entries[-1].cause == "Completed"
        second = run.losses()
    assert min(second) > 20
    assert {**first, **second} == real_twin


def test_more_hosts_lost_than_there_are_spares_pause_until_one_returns(tmp_path: Path, text: str, real_twin) -> None:
    with real_run(tmp_path, text, "kill host host-0 at step 45", "kill host host-2 at step 45", spares=1) as run:
        run.until(lambda s: s["pausedFor"] == "SparesSpent")
        assert wait_for(lambda: any(e.rung == 5 for e in run.logbook()), 10)
        pause = next(entry for entry in run.logbook() if entry.rung == 5)
        assert "good hosts are left" in pause.evidence[-1]
        run.cluster.host_returns("host-2")
        run.until_finished()
        assert run.losses() == real_twin
