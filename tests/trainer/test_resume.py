"""Killed at any moment and started again, a run is bit-equal to one that was never stopped. Real processes, SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from opt_api.documents.exit_report import EXIT_CODES
from support.killed_runs import check_bit_equal, killed_again_and_again, never_stopped, reports
from support.recorder import lines_of
from support.runs import RunFolder, plan_for
from support.warm import Job, Warm


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm() as process:
        yield process


@pytest.mark.integration
def test_a_killed_run_is_bit_equal_to_one_never_stopped(warm: Warm, tmp_path: Path) -> None:
    workers, kills = 2, 3
    plan = plan_for(steps=400, workers=workers)
    whole = never_stopped(warm, tmp_path / "whole", plan)
    broken = RunFolder(tmp_path / "broken")
    killed_again_and_again(warm, broken, plan, kills, seed=workers)
    check_bit_equal(whole, broken, workers)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_hundred_kills_leave_the_series_bit_equal(warm: Warm, tmp_path: Path, workers: int) -> None:
    plan = plan_for(steps=4000, workers=workers, save_every=5)
    whole = never_stopped(warm, tmp_path / "whole", plan)
    broken = RunFolder(tmp_path / "broken")
    killed_again_and_again(warm, broken, plan, 100, seed=workers)
    redone = check_bit_equal(whole, broken, workers)
    assert redone > 0
    print(f"{workers} worker(s): 100 kills, {plan.recipe.total_steps} steps, {redone} redone, all bit-equal")


@pytest.mark.integration
def test_two_four_and_one_workers_see_every_block_once(warm: Warm, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", blocks=8 * 24)
    steps, stops = 24, (7, 15)
    for attempt, (workers, stop_after) in enumerate(zip((2, 4, 1), (*stops, steps), strict=True)):
        jobs = folder.gang(plan_for(steps=steps, workers=workers), attempt)
        pids = [warm.start(job) for job in jobs]
        if stop_after < steps:
            stop_when(jobs[-1], pids[-1], stop_after)
        codes = [warm.wait(pid) for pid in pids]
        assert set(codes) == {0 if stop_after == steps else EXIT_CODES["Stopped"]}, reports(jobs)
        found = [job.report() for job in jobs]
        assert len({(report.step, report.saved_step) for report in found}) == 1
        assert found[0].saved_step == found[0].step
    trained = trained_blocks(folder)
    assert sorted(trained) == list(range(1, steps + 1))
    counts = Counter(block for blocks in trained.values() for block in blocks)
    assert counts == Counter(range(8 * 24))


def stop_when(job: Job, pid: int, step: int) -> None:
    """Ask one worker to stop as soon as it has recorded a step; all of its gang end at a common one."""
    deadline = time.monotonic() + 60
    while not any(line.get("step") == step for line in lines_of(job.series)):
        assert time.monotonic() < deadline, f"step {step} did not come; {reports([job])}"
        time.sleep(0.005)
    os.kill(pid, signal.SIGTERM)


def trained_blocks(folder: RunFolder) -> dict[int, list[int]]:
    """Blocks of each step that was done, over all ranks and attempts."""
    given: dict[int, list[int]] = {}
    for path in (folder.root / "work").glob("blocks-*"):
        for step, *blocks in map(json.loads, path.read_text().splitlines()):
            given.setdefault(step, []).extend(blocks)
    done = {int(str(line["step"])) for line in lines_of(folder.root / "work" / "series-0") if "step" in line}
    return {step: blocks for step, blocks in given.items() if step in done}
