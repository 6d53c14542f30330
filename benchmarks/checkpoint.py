"""Save OPT-125M with Adam's moments (1.5 GB) while it trains, beside torch.save and torch's distributed checkpoint.

Each runner trains in a process of its own, one thread, with the same model and optimiser, and saves after a step to a
folder in memory. The first save of a process warms up and is read back: it must hold the state at the save, bit for
bit, though training went on meanwhile. The others count. What is measured: how long the training thread stands still,
how much longer the steps take until the save is durable, how long that is, and the memory of the process and its
children.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from checkpoint_savers import SAVERS, digest
from common import Case, case_of, interleaved, measured, run

MIB = 1 << 20
MEMORY = Path("/dev/shm")
REPEATS, QUICK_REPEATS = 5, 1
SAVES, QUICK_SAVES = 2, 1
LEAST_STEPS = 3
SOAK_SAVES, QUICK_SOAK_SAVES = 200, 12
LIMIT_S = 4 * 3600.0
"""Of one runner: many saves on a machine with other work."""
SOAK_RUNNERS = ("ours", "DCP async, thread")


Results = Mapping[str, list[Mapping[str, Any]]]


def saves(quick: bool) -> list[Case]:
    """What a save costs, and who pays."""
    return save_cases(interleaved(save_runners(quick), QUICK_REPEATS if quick else REPEATS))


def soak(quick: bool) -> list[Case]:
    """What many saves leave behind."""
    return soak_cases(interleaved(soak_runners(quick), 1))


def save_runners(quick: bool) -> dict[str, Callable[[], Mapping[str, Any]]]:
    """A few saves of each saver."""
    job = {"layers": 1 if quick else 12, "saves": QUICK_SAVES if quick else SAVES}
    return {name: _runner({**job, "saver": name}) for name in SAVERS}


def soak_runners(quick: bool) -> dict[str, Callable[[], Mapping[str, Any]]]:
    """Many saves of the asynchronous ones."""
    job = {"layers": 1 if quick else 12, "saves": QUICK_SOAK_SAVES if quick else SOAK_SAVES, "soak": True}
    return {name: _runner({**job, "saver": name}) for name in SOAK_RUNNERS}


def save_cases(results: Results) -> list[Case]:
    """What a save costs."""
    size = f"{next(iter(results.values()))[0]['bytes'] / 1e9:.2f} GB"
    return [
        _case(f"stall per save, {size}", "ms", results, "stall_ms", "the training thread stands still"),
        _case(
            f"slowdown of the next steps, {size}",
            "ms",
            results,
            "slowdown_ms",
            f"of all steps until the save is durable, at least {LEAST_STEPS}: their time, less that of steps before",
        ),
        _case(f"until durable, {size}", "s", results, "durable_s", "from the call; ours reads everything back"),
        _case(
            f"memory for a save, {size}",
            "MiB",
            results,
            "memory_mib",
            "highest PSS with children, less that before the first save",
        ),
    ]


def soak_cases(results: Results) -> list[Case]:
    """What many saves leave behind."""
    one = results["ours"][0]
    notes = f"PSS with children, last tenth less second tenth; state of {one['bytes'] / 1e9:.2f} GB"
    return [_case(f"memory growth over {one['saves']} saves", "MiB", results, "growth_mib", notes)]


def _runner(job: Mapping[str, Any]) -> Callable[[], Mapping[str, Any]]:
    return lambda: measured(__file__, job, timeout_s=LIMIT_S)


def _case(name: str, unit: str, results: Results, key: str, notes: str) -> Case:
    return case_of(
        name, unit, "lower", {who: [v for r in found for v in r[key]] for who, found in results.items()}, notes
    )


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Train and save in this process."""
    from checkpoint_savers import Training

    training = Training(job["layers"])
    folder = Path(tempfile.mkdtemp(dir=MEMORY, prefix="checkpoint-bench-"))
    saver = SAVERS[job["saver"]](training, folder)
    try:
        return (_soak if job.get("soak") else _measure)(training, saver, job["saves"])
    finally:
        saver.close()
        shutil.rmtree(folder)


def _measure(training: Any, saver: Any, saves: int) -> dict[str, Any]:
    for _ in range(2):
        training.step(saver.guard)
    usual = sorted(training.step(saver.guard) for _ in range(5))[2]
    found: dict[str, Any] = {
        "stall_ms": [],
        "slowdown_ms": [],
        "durable_s": [],
        "memory_mib": [],
        "bytes": training.bytes,
    }
    with PssWatch() as watch:
        gc.collect()
        before = watch.now()
        _checked_save(training, saver)
        gc.collect()
        watch.highest = 0.0  # what was read back was no part of saving
        for _ in range(saves):
            for key, value in _one_save(training, saver, usual).items():
                found[key].append(value)
        found["memory_mib"].append(watch.highest - before)
    return found


def _checked_save(training: Any, saver: Any) -> None:
    """Parity before speed: what is read back is the state at the save, and not a later one.

    Raises:
        AssertionError: It is another.
    """
    wanted = training.digests()
    saver.save()
    for _ in range(LEAST_STEPS):
        training.step(saver.guard)
    saver.wait()
    found = {name: digest(tensor) for name, tensor in saver.load().items()}
    assert found == wanted, "what was read back is not what was saved"


def _one_save(training: Any, saver: Any, usual: float) -> dict[str, float]:
    began = time.perf_counter()
    stalled = saver.save()
    after, steps = time.perf_counter(), 0
    while steps < LEAST_STEPS or not saver.done:
        training.step(saver.guard)
        steps += 1
    slowdown = time.perf_counter() - after - steps * usual
    stalled += saver.guarded
    durable = saver.wait() - began
    return {"stall_ms": stalled * 1e3, "slowdown_ms": (slowdown - saver.guarded) * 1e3, "durable_s": durable}


def _soak(training: Any, saver: Any, saves: int) -> dict[str, Any]:
    held = []
    with PssWatch(interval_s=1e9) as watch:
        for _ in range(saves):
            saver.save()
            saver.guard()
            saver.wait()
            held.append(watch.now())
    tenth = max(1, saves // 10)
    growth = sum(held[-tenth:]) / tenth - sum(held[tenth : 2 * tenth]) / tenth
    return {"growth_mib": [growth], "bytes": training.bytes, "saves": saves}


class PssWatch:
    """Proportional memory of this process and its descendants, sampled: memory that they share counts once."""

    def __init__(self, interval_s: float = 0.25) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, args=(interval_s,), daemon=True)
        self.highest = 0.0

    def __enter__(self) -> PssWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def now(self) -> float:
        """MiB now."""
        import psutil

        own = psutil.Process(os.getpid())
        return sum(_pss(p.pid) for p in [own, *own.children(recursive=True)])

    def _sample(self, interval_s: float) -> None:
        while not self._stop.wait(interval_s):
            self.highest = max(self.highest, self.now())


def _pss(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0  # it has just ended
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


if __name__ == "__main__":
    run("checkpoint", {"saves": saves, "soak": soak}, work)
