"""Checkpoints as whole runs write and take them: damage, outages, what a manifest says of its run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opt_api.documents.exit_report import EXIT_CODES
from opt_api.documents.keys import logbook_prefix, manifest_key, mark_key
from opt_api.documents.logbook import LogbookEntry
from opt_api.documents.manifests import CheckpointManifest
from opt_api.documents.plan import Plan, PrecisionPlan
from opt_api.training.optimisation import LossScale
from opt_store import digest_of
from opt_trainer.checkpoint.catalog import catalog
from opt_trainer.checkpoint.verify import problems_of
from support.recorder import lines_of
from support.runs import RunFolder, plan_for
from support.warm import Job, Warm

pytestmark = pytest.mark.integration

RUN = "tiny"


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm() as process:
        yield process


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def train(warm: Warm, folder: RunFolder, plan: Plan, attempt: int, **more: Any) -> list[Job]:
    """One attempt of a whole gang, to the plan's end."""
    jobs = folder.gang(plan, attempt, **more)
    codes = warm.run(jobs)
    assert set(codes) == {0}, [job.report() for job in jobs]
    return jobs


def manifests(folder: RunFolder) -> dict[int, CheckpointManifest]:
    """By step."""
    found = (f for f in catalog(folder.store, RUN) if f.complete)
    return {f.step: CheckpointManifest.from_bytes(folder.store.get(manifest_key(f.prefix))) for f in found}


def saving_at(plan: Plan, *steps: int) -> Plan:
    """The plan with saves after these very steps, also if an earlier one is still under way."""
    return plan.model_copy(update={"checkpointing": plan.checkpointing.model_copy(update={"pinned": steps})})


def go_back(folder: RunFolder, step: int) -> None:
    """Delete every checkpoint after a step: as if the run had been killed soon after it."""
    for found in catalog(folder.store, RUN):
        for key in found.keys if found.step > step else ():
            folder.store.delete(key)


def check_redone_alike(folder: RunFolder, steps: int) -> list[int]:
    """What was done twice had the same numbers, bit for bit; returns the steps in the order they were done."""
    lines = [line for line in lines_of(folder.root / "work" / "series-0") if "step" in line]
    first: dict[object, object] = {}
    for line in lines:
        assert first.setdefault(line["step"], line) == line
    assert sorted(map(int, map(str, first))) == list(range(1, steps + 1))
    return [int(str(line["step"])) for line in lines]


def spoil(folder: RunFolder, step: int) -> str:
    """Flip one bit in the middle of the last rank's object of a checkpoint, in place; returns its prefix."""
    found = next(f for f in catalog(folder.store, RUN) if f.step == step)
    path = folder.root / "store" / max(key for key in found.keys if key.endswith(".safetensors"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return found.prefix


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_passes_over_a_damaged_checkpoint_says_so_and_is_bit_equal(
    warm: Warm, folder: RunFolder, workers: int
) -> None:
    plan = saving_at(plan_for(steps=9, workers=workers, save_every=100), 3, 6)
    train(warm, folder, plan, 0)
    go_back(folder, 6)
    prefix = spoil(folder, 6)
    train(warm, folder, plan, 1)
    assert check_redone_alike(folder, 9) == [*range(1, 10), *range(4, 10)], "it went on from the checkpoint before"
    assert folder.store.exists(mark_key(prefix, "Poisoned"))
    entries = [LogbookEntry.from_bytes(folder.store.get(i.key)) for i in folder.store.list(logbook_prefix(RUN))]
    assert [(e.cause, e.attempt, e.from_step, e.who) for e in entries] == [("CheckpointPoisoned", 1, 6, "trainer")]
    assert ".safetensors" in entries[0].evidence[0]


def test_no_checkpoint_that_can_be_loaded_ends_the_run_and_never_begins_anew(warm: Warm, folder: RunFolder) -> None:
    plan = plan_for(steps=6, save_every=6)
    train(warm, folder, plan, 0)
    spoil(folder, 6)
    (job,) = folder.gang(plan, 1)
    assert warm.run([job]) == [EXIT_CODES["BadCheckpoint"]]
    assert "none of its checkpoints can be loaded" in job.report().message
    assert check_redone_alike(folder, 6) == list(range(1, 7))


def test_a_store_that_is_away_fails_the_saves_of_that_time_and_not_the_run(warm: Warm, folder: RunFolder) -> None:
    (job,) = folder.gang(plan_for(steps=400, save_every=2), 0)
    pid = warm.start(job)
    until(job, lambda line: line.get("outcome") == "Complete")
    home = folder.root / "store"
    home.rename(folder.root / "away")
    until(job, lambda line: line.get("outcome") == "Failed")
    (folder.root / "away").rename(home)
    assert warm.wait(pid) == 0, job.report()
    failed = [line for line in lines_of(job.series) if line.get("outcome") == "Failed"]
    assert all("store" in str(line["message"]) for line in failed)
    newest = catalog(folder.store, RUN)[0]
    assert (newest.step, problems_of(folder.store, newest.prefix)) == (400, [])


def until(job: Job, seen: Any) -> None:
    deadline = time.monotonic() + 60
    while not any(map(seen, lines_of(job.series))):
        assert time.monotonic() < deadline, lines_of(job.series)[-3:]
        time.sleep(0.005)


def test_a_manifest_tells_what_it_was_made_from(warm: Warm, folder: RunFolder) -> None:
    plan = saving_at(plan_for(steps=6, workers=2, save_every=100), 3)
    train(warm, folder, plan, 0)
    go_back(folder, 3)
    train(warm, folder, plan, 1)
    first, last = (manifests(folder)[step] for step in (3, 6))
    dataset = folder.store.get("data/manifest.json")
    assert (first.lineage.parent, last.lineage.parent) == (None, first.digest())
    for manifest in (first, last):
        assert (manifest.lineage.identity, manifest.lineage.plan) == (plan.identity, plan.digest())
        assert manifest.lineage.dataset == digest_of(dataset)
        assert manifest.world_size == 2
        assert manifest.tokens == manifest.step * plan.tokens_per_step
    series = {line["step"]: line for line in lines_of(folder.root / "work" / "series-0") if "step" in line}
    assert last.loss == float.fromhex(str(series[6]["loss"]))


def test_float16_goes_on_with_its_loss_scale_bit_for_bit(warm: Warm, folder: RunFolder) -> None:
    precision = PrecisionPlan(compute="float16", loss_scale=LossScale(initial=2.0**26, window=3, floor=0.5))
    plan = saving_at(plan_for(steps=30, save_every=100), 15).model_copy(update={"precision": precision})
    train(warm, folder, plan, 0)
    whole = manifests(folder)[30]
    go_back(folder, 15)
    train(warm, folder, plan, 1)
    assert check_redone_alike(folder, 30) == [*range(1, 31), *range(16, 31)]
    assert manifests(folder)[30].scaler == whole.scaler
    stopped = manifests(folder)[15]
    assert stopped.scaler is not None
    assert stopped.scaler.overflows > 0, "the scale never had to fall"
    assert stopped.scaler.scale == stopped.loss_scale
