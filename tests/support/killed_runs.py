"""Runs that are killed at any moment and started again, and what must be equal then."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from opt_api.documents.exit_report import EXIT_CODES
from opt_api.documents.manifests import CheckpointManifest
from opt_api.documents.plan import Plan
from support.recorder import lines_of
from support.runs import RunFolder
from support.warm import Job, Warm

WHOLE_RUN_S = 1800.0
"""Longest that thousands of steps with a save every few take on a slow machine."""
STEPS_BETWEEN = 60
"""Most steps from the start of an attempt to its end by a kill, about."""


def newest(folder: RunFolder) -> tuple[int, list[str]]:
    """Step of the newest checkpoint, and the digests of its objects."""
    key = max(info.key for info in folder.store.list("runs/tiny/checkpoints/") if info.key.endswith("/manifest.json"))
    manifest = CheckpointManifest.from_bytes(folder.store.get(key))
    return manifest.step, [entry.digest for entry in manifest.objects]


def never_stopped(warm: Warm, root: Path, plan: Plan) -> RunFolder:
    """The run that the others are held against."""
    folder = RunFolder(root)
    assert set(warm.run(folder.gang(plan, attempt=0), WHOLE_RUN_S)) == {0}
    return folder


def killed_again_and_again(warm: Warm, folder: RunFolder, plan: Plan, kills: int, seed: int) -> None:
    """Kill a random worker at a random moment of every attempt, then let the run finish."""
    chance = random.Random(seed)
    for attempt in range(kills):
        jobs = folder.gang(plan, attempt)
        pids = [warm.start(job) for job in jobs]
        doomed = chance.randrange(len(pids))
        await_the_moment(jobs[doomed], chance)
        os.kill(pids[doomed], signal.SIGKILL)
        assert warm.wait(pids[doomed]) == -signal.SIGKILL, f"attempt {attempt} had ended; the plan needs more steps"
        codes = {end_survivor(warm, pid) for rank, pid in enumerate(pids) if rank != doomed}
        allowed = {EXIT_CODES["LostPeer"], -signal.SIGKILL}
        assert codes <= allowed, f"seed {seed}, attempt {attempt}: {reports(jobs)}"
    jobs = folder.gang(plan, kills)
    assert set(warm.run(jobs, WHOLE_RUN_S)) == {0}, f"seed {seed}: {reports(jobs)}"


def await_the_moment(job: Job, chance: random.Random) -> None:
    """One in four while it starts and loads, the others some steps later, anywhere within a step or a save."""
    if chance.random() < 0.25:
        time.sleep(chance.uniform(0.0, 0.5))
        return
    before, steps = len(lines_of(job.series)), chance.randrange(1, STEPS_BETWEEN)
    deadline = time.monotonic() + 60
    while len(lines_of(job.series)) < before + steps and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(chance.uniform(0.0, 0.02))


def end_survivor(warm: Warm, pid: int) -> int | None:
    """A worker that lost a peer ends by itself, unless it still waits for the gang to meet: then it is ended."""
    if (code := warm.wait(pid, timeout_s=5)) is None:
        os.kill(pid, signal.SIGKILL)
        code = warm.wait(pid)
    return code


def reports(jobs: list[Job]) -> list[str]:
    """What workers said at their ends, for a message."""
    return [job.report().model_dump_json() for job in jobs if job.config.report_path.exists()]


def check_bit_equal(whole: RunFolder, broken: RunFolder, workers: int) -> int:
    """Every line that any attempt recorded has the numbers of the run that was never stopped; returns steps redone."""
    redone = 0
    for rank in range(workers):
        expected = {line["step"]: line for line in lines_of(whole.root / "work" / f"series-{rank}") if "step" in line}
        seen = [line for line in lines_of(broken.root / "work" / f"series-{rank}") if "step" in line]
        for line in seen:
            assert line == expected[line["step"]]
        assert {line["step"] for line in seen} == set(expected)
        redone += len(seen) - len(expected)
    assert newest(broken) == newest(whole)
    return redone
