"""Train step of OPT-125M on the CPU beside transformers (plain loop, Trainer) and, with two workers, accelerate.

Same weights and batches; losses must agree before a speed counts. Runners are interleaved, each in a fresh process.
"""

from __future__ import annotations

import dataclasses
import resource
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common import OURS, Case, case_of, interleaved, measured, run

ALONE = ("ours", "transformers", "transformers Trainer")
LAYOUTS: dict[str, tuple[str, ...]] = {"FSDP2": ("ours", "accelerate"), "DDP": ("ours", "accelerate"), "TP": ("ours",)}
THREADS = 2
TOLERANCE = {"float32": 2e-4, "bfloat16": 3e-2}
"""Largest difference of losses (nats, of about 10.8) in the steps that are compared."""


def measure(quick: bool) -> list[Case]:
    """All cases; a quick run has two layers, short batches and few of the cases."""
    from train_runners import Job, write_weights

    with tempfile.TemporaryDirectory() as folder:
        job = Job(folder, layers=2, sequences=2, length=64, steps=2, warmup=1) if quick else Job(folder)
        write_weights(Path(folder), job.layers)
        repeats = 1 if quick else 5
        grid = [("float32", 0.0, False)] if quick else _grid()
        cases = [case for chosen in grid for case in _alone(job, repeats, *chosen)]
        for layout in LAYOUTS:
            cases += _together(job, repeats, layout)
    return cases


def _grid() -> list[tuple[str, float, bool]]:
    plain = [(dtype, dropout, False) for dtype in ("float32", "bfloat16") for dropout in (0.0, 0.1)]
    return [*plain, ("float32", 0.0, True), ("bfloat16", 0.0, True)]


def _alone(base: Any, repeats: int, dtype: str, dropout: float, compiled: bool) -> list[Case]:
    job = replace(base, dtype=dtype, dropout=dropout, compile=compiled)
    results = interleaved({name: _runner(job, name, None) for name in ALONE}, repeats)
    _same_losses(results, dtype, dropout)
    name = f"{dtype}, dropout {dropout:g}" + (", compiled" if compiled else "")
    return _cases(name, job, results)


def _together(base: Any, repeats: int, layout: str) -> list[Case]:
    results = interleaved({name: _runner(base, name, layout) for name in LAYOUTS[layout]}, repeats)
    _same_losses(results, base.dtype, base.dropout)
    note = "" if len(LAYOUTS[layout]) > 1 else "transformers has no tensor-parallel plan for OPT: no peer"
    return _cases(f"2 workers, {layout}, float32", base, results, note)


def _runner(job: Any, name: str, layout: str | None) -> Callable[[], Mapping[str, Any]]:
    return lambda: measured(__file__, {"job": asdict(job), "runner": name, "layout": layout})


def _same_losses(results: Mapping[str, list[Mapping[str, Any]]], dtype: str, dropout: float) -> None:
    """Parity first. With dropout the masks differ, and the Trainer's decay differs from the second step on."""
    if dropout:
        return
    expected = results[OURS][0]["losses"]
    for name, found in results.items():
        steps = 1 if name == "transformers Trainer" else len(expected)
        apart = max(abs(a - b) for a, b in zip(expected[:steps], found[0]["losses"][:steps], strict=True))
        if not apart <= TOLERANCE[dtype]:
            raise RuntimeError(
                f"{name}: losses differ from ours by {apart}, allowed are {TOLERANCE[dtype]}; {found[0]}"
            )


def _cases(name: str, job: Any, results: Mapping[str, list[Mapping[str, Any]]], notes: str = "") -> list[Case]:
    tokens = job.sequences * job.length
    note = f"batch {job.sequences} x {job.length}; {notes}" if notes else f"batch {job.sequences} x {job.length}"
    speed = {n: [tokens / statistics.median(r["seconds"]) for r in found] for n, found in results.items()}
    rss = {n: [r["rss_mib"] for r in found] for n, found in results.items()}
    return [case_of(name, "tokens/s", "higher", speed, note), case_of(name, "MiB peak", "lower", rss, note)]


def worker(job: dict[str, Any]) -> dict[str, Any]:
    """One run in this process (and, for a gang, its children)."""
    import torch

    torch.set_num_threads(THREADS)
    from train_runners import RUNNERS, Job

    if job["layout"] is None:
        result = RUNNERS[job["runner"]](Job(**job["job"]))
    else:
        from train_gangs import together

        result = together(Job(**job["job"]), job["runner"], job["layout"])
    who = resource.RUSAGE_SELF if job["layout"] is None else resource.RUSAGE_CHILDREN
    return {**dataclasses.asdict(result), "rss_mib": resource.getrusage(who).ru_maxrss / 1024}


if __name__ == "__main__":
    run("train", measure, worker)
