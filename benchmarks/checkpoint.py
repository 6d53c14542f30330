"""Save OPT-125M with Adam's moments (1.5 GB) while it trains, beside torch.save and torch's distributed checkpoint.

Each runner trains in a process of its own, one thread, with the same model and optimiser, and saves after a step to a
folder in memory. The first save of a process warms up; the others count. What is measured: how long the training thread
stands still, how much longer the following steps take, how long until the save is durable, and the memory of the
process and its children.
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

from checkpoint_savers import SAVERS
from common import Case, case_of, interleaved, measured, run

MIB = 1 << 20
MEMORY = Path("/dev/shm")
REPEATS, QUICK_REPEATS = 5, 1
SAVES, QUICK_SAVES = 3, 2
STEPS_AFTER = 3
SOAK_SAVES, QUICK_SOAK_SAVES = 200, 12
SOAK_RUNNERS = ("ours", "DCP async, thread")


def measure(quick: bool) -> list[Case]:
    """Return the cases."""
    job = {"layers": 1 if quick else 12, "saves": QUICK_SAVES if quick else SAVES}
    results = interleaved(
        {name: _runner({**job, "saver": name}) for name in SAVERS}, QUICK_REPEATS if quick else REPEATS
    )
    soak = {"layers": 1, "saves": QUICK_SOAK_SAVES if quick else SOAK_SAVES, "soak": True}
    growth = interleaved({name: _runner({**soak, "saver": name}) for name in SOAK_RUNNERS}, 1)
    size = f"{next(iter(results.values()))[0]['bytes'] / 1e9:.2f} GB"
    return [
        _case(f"stall per save, {size}", "ms", results, "stall_ms", "the training thread stands still"),
        _case(
            f"slowdown, next {STEPS_AFTER} steps", "ms", results, "slowdown_ms", "their time, less that of steps before"
        ),
        _case(f"until durable, {size}", "s", results, "durable_s", "from the call; ours reads everything back"),
        _case(
            f"memory for a save, {size}",
            "MiB",
            results,
            "memory_mib",
            "highest PSS with children, less that before the first save",
        ),
        _case(
            f"memory growth over {soak['saves']} saves",
            "MiB",
            growth,
            "growth_mib",
            f"PSS with children, last tenth less second tenth; state of {growth['ours'][0]['bytes'] / 1e9:.2f} GB",
        ),
    ]


def _runner(job: Mapping[str, Any]) -> Callable[[], Mapping[str, Any]]:
    return lambda: measured(__file__, job)


def _case(name: str, unit: str, results: Mapping[str, list[Mapping[str, Any]]], key: str, notes: str) -> Case:
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
    usual = sorted(training.step(saver.guard) for _ in range(3))[1]
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
        for number in range(saves):
            one = _one_save(training, saver, usual)
            if number:
                for key, value in one.items():
                    found[key].append(value)
        found["memory_mib"].append(watch.highest - before)
    return found


def _one_save(training: Any, saver: Any, usual: float) -> dict[str, float]:
    began = time.perf_counter()
    stalled = saver.save()
    after = time.perf_counter()
    for _ in range(STEPS_AFTER):
        training.step(saver.guard)
    slowdown = time.perf_counter() - after - STEPS_AFTER * usual
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
    return {"growth_mib": [growth], "bytes": training.bytes}


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
    run("checkpoint", measure, work)
