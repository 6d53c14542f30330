"""Changes and skipped batches in real runs: gangs of workers with real folders in which documents appear."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opt_api.documents.live_change import LiveChange
from opt_api.documents.manifests import CheckpointManifest
from opt_api.documents.plan import PrecisionPlan
from opt_api.training.data import BatchRange
from opt_api.training.optimisation import LossScale
from opt_trainer.checkpoint.catalog import catalog
from opt_trainer.recipe.schedule import learning_rate
from support.recorder import lines_of
from support.runs import RunFolder, plan_for
from support.warm import Job, Warm

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm() as process:
        yield process


def change(sequence: int, at_step: int, **values: Any) -> LiveChange:
    said = {"reason": "a test", "who": "test", "time": datetime(2026, 11, 24, tzinfo=UTC)}
    return LiveChange(sequence=sequence, at_step=at_step, **values, **said)


def put(folder: Path, document: LiveChange) -> None:
    """As the agent does: written aside, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{document.sequence}"
    aside.write_bytes(document.to_bytes())
    aside.rename(folder / f"{document.sequence}.json")


def steps_of(job: Job) -> dict[int, dict[str, Any]]:
    return {int(str(line["step"])): line for line in lines_of(job.series) if "step" in line}


def with_changes(jobs: list[Job], root: Path) -> list[Job]:
    return [replace(job, config=replace(job.config, changes=root / str(rank))) for rank, job in enumerate(jobs)]


def test_a_change_takes_hold_on_all_ranks_at_one_step_however_late_it_reaches_one(warm: Warm, tmp_path: Path) -> None:
    folder, plan = RunFolder(tmp_path / "run"), plan_for(steps=300, workers=2, save_every=100)
    jobs = with_changes(folder.gang(plan, 0), tmp_path)
    lower = change(1, at_step=6, learning_rate=0.002)
    put(tmp_path / "0", lower)
    (tmp_path / "1").mkdir()
    pids = [warm.start(job) for job in jobs]
    deadline = time.monotonic() + 90
    while 9 not in steps_of(jobs[1]):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    put(tmp_path / "1", lower)
    assert [warm.wait(pid) for pid in pids] == [0, 0]
    first, second = (steps_of(job) for job in jobs)
    assert first == second
    held = [step for step, line in first.items() if line["change"] == 1]
    assert held == list(range(held[0], 301))
    assert held[0] > 9
    for step, line in first.items():
        peak = 0.002 if step in held else plan.recipe.peak_learning_rate
        assert line["learning_rate"] == learning_rate(plan, step, peak)


def test_batches_skipped_by_a_change_are_those_skipped_by_the_plan(warm: Warm, tmp_path: Path) -> None:
    """Bit-equal to the plan that skips them from the start, and not to the plan that skips none."""
    plan, skipped = plan_for(steps=20), (BatchRange(first=8, last=10),)
    by_plan, by_change, none = (RunFolder(tmp_path / name) for name in ("plan", "change", "none"))
    put(tmp_path / "0", change(1, at_step=5, skip_batches=skipped))
    jobs = [
        by_plan.gang(plan.model_copy(update={"skip_batches": skipped}), 0)[0],
        with_changes(by_change.gang(plan, 0), tmp_path)[0],
        none.gang(plan, 0)[0],
    ]
    assert [warm.run([job]) for job in jobs] == [[0]] * 3
    planned, changed, whole = (steps_of(job) for job in jobs)
    numbers = ("loss", "gradient_norm", "parameter_norm", "tokens", "learning_rate")
    assert {s: [line[n] for n in numbers] for s, line in planned.items()} == {
        s: [line[n] for n in numbers] for s, line in changed.items()
    }
    tokens = plan.tokens_per_step
    assert [changed[step]["tokens"] for step in (7, 8, 10, 11)] == [7 * tokens, 7 * tokens, 7 * tokens, 8 * tokens]
    assert changed[7] == {**whole[7], "change": changed[7]["change"]}
    assert changed[11]["loss"] != whole[11]["loss"]


def test_a_lower_clip_changes_the_updates_from_its_step_on(warm: Warm, tmp_path: Path) -> None:
    plan = plan_for(steps=12)
    clipped, whole = RunFolder(tmp_path / "clipped"), RunFolder(tmp_path / "whole")
    put(tmp_path / "0", change(1, at_step=6, clip=1e-4))
    jobs = [with_changes(clipped.gang(plan, 0), tmp_path)[0], whole.gang(plan, 0)[0]]
    assert [warm.run([job]) for job in jobs] == [[0]] * 2
    first, second = (steps_of(job) for job in jobs)
    assert all(first[step]["loss"] == second[step]["loss"] for step in range(1, 7))
    assert first[8]["loss"] != second[8]["loss"]


def newest(folder: RunFolder) -> CheckpointManifest:
    return CheckpointManifest.from_bytes(folder.store.get(f"{catalog(folder.store, 'tiny')[0].prefix}/manifest.json"))


def test_a_raised_loss_scale_floor_takes_hold_and_stays_after_a_restart(warm: Warm, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    precision = PrecisionPlan(compute="float16", loss_scale=LossScale(initial=4.0, window=1000, floor=0.25))
    first, more = (plan_for(steps=steps).model_copy(update={"precision": precision}) for steps in (6, 9))
    put(tmp_path / "0", change(1, at_step=4, loss_scale_floor=64.0))
    assert warm.run(with_changes(folder.gang(first, 0), tmp_path)) == [0]
    for attempt, plan in enumerate((first, more)):
        if attempt:
            assert warm.run(folder.gang(plan, attempt)) == [0]
        found = newest(folder)
        assert found.scaler is not None
        assert found.running is not None
        assert (found.step, found.scaler.scale, found.running.loss_scale_floor) == (plan.recipe.total_steps, 64.0, 64.0)
        assert found.applied_change == 1
