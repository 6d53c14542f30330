"""How workers end: exit code and typed report of each cause, brought about for real."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from opt_api.documents.exit_report import EXIT_CODES, RETRYABLE, ExitCause, ExitReport
from opt_api.documents.heartbeat import Heartbeat
from opt_api.documents.plan import Plan, PrecisionPlan
from opt_api.training.optimisation import LossScale
from opt_store import Corrupt, Unavailable
from opt_trainer.checkpoint.errors import Fenced, SaveFailed, WrongCheckpoint
from opt_trainer.checkpoint.job import StoreAddress
from opt_trainer.errors import BadHost, LostPeer
from opt_trainer.program.ending import cause_of
from opt_trainer.program.preflight import check_plan
from support.recorder import lines_of
from support.runs import RunFolder, plan_for
from support.small_disk import small_disk
from support.warm import Job, Warm


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm() as process:
        yield process


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def ends(warm: Warm, job: Job, cause: ExitCause) -> ExitReport:
    code = warm.run([job])
    report = job.report()
    assert (report.cause, code) == (cause, [EXIT_CODES[cause]]), report.message
    return report


def recipe(plan: Plan, **changed: Any) -> Plan:
    return plan.model_copy(update={"recipe": plan.recipe.model_copy(update=changed)})


@pytest.mark.integration
def test_refusals_name_the_two_numbers(warm: Warm, folder: RunFolder) -> None:
    plan = plan_for(steps=4)
    layout = plan.layout.model_copy(update={"devices_per_host": 3, "tensor_parallel": 3, "replicate": 1, "shard": 1})
    huge = plan.architecture.model_copy(update={"layers": 100_000, "hidden_size": 8192})
    shape = plan.architecture.model_copy(update={"vocabulary_size": 95})
    cases: list[tuple[dict[str, Any], ExitCause, str]] = [
        (
            {"plan": plan_for(steps=4, workers=2), "world_size": 1},
            "BadSpec",
            "the gang has 1 workers, the layout has 2",
        ),
        (
            {"plan": plan.model_copy(update={"layout": layout})},
            "BadSpec",
            "heads 4 is not a multiple of tensorParallel 3",
        ),
        ({"plan": plan.model_copy(update={"architecture": huge})}, "BadSpec", "GiB, its device has"),
        ({"plan": plan.model_copy(update={"architecture": shape})}, "BadData", "vocabulary has 96 entries"),
        ({"dataset_digest": "sha256:" + "0" * 64}, "BadData", "0000"),
        ({"plan": plan.model_copy(update={"sequence_length": 24})}, "BadData", "sequenceLength 24 needs 25"),
        ({"dataset": f"{folder.url}/nowhere/manifest.json"}, "BadData", "nowhere"),
        ({"store": StoreAddress(url=f"file://{folder.root}/absent")}, "StoreUnavailable", "absent"),
    ]
    for attempt, (orders, cause, words) in enumerate(cases):
        own = {name: value for name, value in orders.items() if name != "plan"}
        job = folder.gang(orders.get("plan", plan), attempt, **own)[0]
        report = ends(warm, job, cause)
        assert words in report.message, report.message
        assert not lines_of(job.series), "a step was trained"


@pytest.mark.integration
def test_a_checkpoint_of_another_model_is_refused(warm: Warm, folder: RunFolder) -> None:
    ends(warm, folder.gang(plan_for(steps=3), 0)[0], "Completed")
    report = ends(warm, folder.gang(plan_for(steps=6, model={"layers": 3}), 1)[0], "BadSpec")
    assert "layers 2 there, 3 here" in report.message


@pytest.mark.integration
def test_divergence_ends_the_run_and_reaches_no_checkpoint(warm: Warm, folder: RunFolder) -> None:
    plan = recipe(plan_for(steps=30, save_every=1), peak_learning_rate=1e15)
    report = ends(warm, folder.gang(plan, 0)[0], "Diverged")
    assert "both must be finite" in report.message
    for info in folder.store.list("runs/tiny/checkpoints/"):
        if info.key.endswith(".safetensors"):
            check_finite(folder, info.key)
    assert report.step < 30


def check_finite(folder: RunFolder, key: str) -> None:
    from safetensors.torch import load

    for name, tensor in load(folder.store.get(key)).items():
        assert torch.isfinite(tensor).all(), f"{key}: {name}"


@pytest.mark.integration
def test_float16_leaves_overflowing_updates_out(warm: Warm, folder: RunFolder) -> None:
    scale = LossScale(initial=2.0**40, window=4, floor=0.5)
    precision = PrecisionPlan(compute="float16", loss_scale=scale)
    plan = plan_for(steps=60, save_every=20).model_copy(update={"precision": precision})
    job = folder.gang(plan, 0)[0]
    ends(warm, job, "Completed")
    norms = [float.fromhex(str(line["parameter_norm"])) for line in lines_of(job.series) if "step" in line]
    assert norms[0] == norms[10], "an overflowing update changed the weights"
    assert norms[-1] != norms[0]


@pytest.mark.integration
def test_a_newer_attempt_fences_an_older_one(warm: Warm, folder: RunFolder) -> None:
    ends(warm, folder.gang(plan_for(steps=3), 5)[0], "Completed")
    report = ends(warm, folder.gang(plan_for(steps=3), 4)[0], "Stopped")
    assert "attempt 5 has begun" in report.message


@pytest.mark.integration
def test_running_out_of_memory_has_its_own_code(warm: Warm, folder: RunFolder) -> None:
    plan = plan_for(steps=3, model={"hiddenSize": 1024, "ffnSize": 4096, "layers": 8})
    ends(warm, folder.gang(plan, 0, memory_limit=600 << 20)[0], "OutOfMemory")


@pytest.mark.integration
def test_a_lost_peer_has_its_own_code(warm: Warm, folder: RunFolder) -> None:
    jobs = folder.gang(plan_for(steps=100_000, workers=2), 0)
    pids = [warm.start(job) for job in jobs]
    deadline = time.monotonic() + 60
    while not any(line.get("step") == 5 for line in lines_of(jobs[0].series)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(pids[1], signal.SIGKILL)
    assert warm.wait(pids[0]) == EXIT_CODES["LostPeer"], jobs[0].report().message
    assert jobs[0].report().step >= 5


@pytest.mark.integration
@pytest.mark.parametrize("present", [0, 1])
def test_a_worker_that_never_joins_is_named_when_the_deadline_is_over(
    warm: Warm, folder: RunFolder, present: int
) -> None:
    plan = plan_for(steps=4, workers=2, resilience={"sectionDeadlines": {"init": 5}})
    job = folder.gang(plan, 0)[present]
    report = ends(warm, job, "LostPeer")
    if present == 0:
        assert "gang of 2: rank(s) 1 did not join within 5 s" in report.message
    else:
        assert "rank 0 or its agent does not answer within 5 s" in report.message


@pytest.mark.integration
def test_a_full_disk_is_the_hosts_fault(folder: RunFolder) -> None:
    plan, disk = folder.root / "plan.json", folder.root / "disk"
    plan.write_bytes(plan_for(steps=4).to_bytes())
    command = [*small_disk(disk, "64k"), "sh", "-c", f'head -c 60k /dev/zero > {disk}/filler; exec "$@"', "sh"]
    command += [sys.executable, "-m", "opt_trainer", "--plan", str(plan), "--store", folder.url, "--attempt", "0"]
    command += ["--work", str(disk), "--report", str(folder.root / "exit.json")]
    command += ["--dataset", f"{folder.url}/data/manifest.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    report = ExitReport.from_bytes((folder.root / "exit.json").read_bytes())
    assert (report.cause, done.returncode) == ("BadHost", EXIT_CODES["BadHost"]), done.stderr
    assert "disk" in report.message or "No space left" in report.message


@pytest.mark.unit
def test_a_host_with_too_few_devices_is_refused_with_both_numbers() -> None:
    plan = plan_for(steps=4, workers=8)
    layout = plan.layout.model_copy(update={"device": "cuda"})
    found = torch.cuda.device_count()
    if found >= 8:
        layout = layout.model_copy(update={"devices_per_host": 8 * found, "shard": 8 * found})
    wanted = layout.devices_per_host
    with pytest.raises(BadHost, match=f"this host has {found} CUDA devices, the layout wants {wanted}"):
        check_plan(plan.model_copy(update={"layout": layout}), layout.world_size)


@pytest.mark.integration
def test_a_worker_that_hangs_when_asked_to_stop_is_ended_by_the_clock(warm: Warm, folder: RunFolder) -> None:
    jobs = folder.gang(plan_for(steps=100_000, workers=2), 0, stop_seconds=2.0)
    pids = [warm.start(job) for job in jobs]
    deadline = time.monotonic() + 60
    while len(lines_of(jobs[0].series)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(pids[1], signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(pids[0], signal.SIGTERM)
    assert warm.wait(pids[0]) == EXIT_CODES["Stopped"]
    assert "did not end within 2 s" in jobs[0].report().message
    os.kill(pids[1], signal.SIGKILL)


@pytest.mark.integration
def test_the_program_runs_alone_and_is_stopped_by_a_signal(folder: RunFolder) -> None:
    plan = folder.root / "plan.json"
    plan.write_bytes(plan_for(steps=100_000, save_every=1000).to_bytes())
    work = folder.root / "work"
    command = [sys.executable, "-m", "opt_trainer", "--plan", plan, "--store", folder.url, "--attempt", "0"]
    command += ["--work", work, "--dataset", f"{folder.url}/data/manifest.json", "--heartbeats", work]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder.root / "log").open("w") as log:
        program = subprocess.Popen(list(map(str, command)), stderr=log, env=environment)
    try:
        deadline = time.monotonic() + 90
        while len(records(work)) < 5:
            assert program.poll() is None, (folder.root / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        program.terminate()
        assert program.wait(60) == EXIT_CODES["Stopped"]
    finally:
        program.kill()
    report = ExitReport.from_bytes((work / "exit-0.json").read_bytes())
    assert report.saved_step == report.step >= 5
    beat = Heartbeat.from_bytes((work / "heartbeat-0.json").read_bytes())
    assert beat.section in {"shutdown", "init"}
    assert beat.step == report.step


def records(work: Path) -> list[dict[str, Any]]:
    path = work / "metrics-000000.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.integration
def test_the_program_refuses_a_broken_plan(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"kind": "Plan"}')
    command = [sys.executable, "-m", "opt_trainer", "--plan", "plan.json", "--store", "file:///x", "--attempt", "3"]
    done = subprocess.run([*command, "--work", "."], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_CODES["BadSpec"]
    report = ExitReport.from_bytes((tmp_path / "exit-0.json").read_bytes())
    assert (report.cause, report.attempt) == ("BadSpec", 3)
    assert "Field required" in done.stderr


@pytest.mark.unit
@pytest.mark.parametrize(
    ("problem", "cause"),
    [
        (RuntimeError("[../pair.cc:553] Connection closed by peer [127.0.0.1]:4711"), "LostPeer"),
        (torch.distributed.DistBackendError("NCCL error"), "LostPeer"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "OutOfMemory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "OutOfMemory"),
        (MemoryError(), "OutOfMemory"),
        (Corrupt("shard"), "BadData"),
        (Unavailable("no answer"), "StoreUnavailable"),
        (SaveFailed("no room"), "StoreUnavailable"),
        (Fenced("attempt 4"), "Stopped"),
        (WrongCheckpoint("layers"), "BadSpec"),
        (RuntimeError("shape mismatch"), "Internal"),
        (KeyError("name"), "Internal"),
        (LostPeer("rank 1"), "LostPeer"),
        (BadHost("no device"), "BadHost"),
        (OSError(errno.EIO, "Input/output error"), "BadHost"),
        (OSError(errno.ENOSPC, "No space left on device"), "BadHost"),
        (OSError(errno.ENOENT, "No such file"), "Internal"),
    ],
)
def test_causes(problem: BaseException, cause: ExitCause) -> None:
    assert cause_of(problem) == cause
    assert cause in RETRYABLE
