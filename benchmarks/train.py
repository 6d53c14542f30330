"""Train step of OPT-125M on the CPU beside transformers (plain loop, Trainer); with two workers, accelerate and FSDP2.

Same weights and batches; losses must agree before a speed counts. Each runner is a process of its own,
warm once; their rounds are interleaved.
"""

from __future__ import annotations

import dataclasses
import resource
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common import OURS, Case, Measure, case_of, run
from train_rounds import AS_WORKERS, PLAIN, in_rounds

ALONE = ("ours", "transformers", "transformers Trainer")
LAYOUTS: dict[str, tuple[str, ...]] = {"FSDP2": ("ours", "fully_shard"), "DDP": ("ours", "accelerate"), "TP": ("ours",)}
THREADS = 2
TOLERANCE = {"float32": 2e-4, "bfloat16": 3e-2}
"""Largest difference of losses (nats, of about 10.8) in the steps that are compared."""
COMPARED = 12
"""Steps whose losses are compared: later ones drift apart in bfloat16, as each step's rounding goes on in the next."""
ALIKE = "transformers, memory as ours"
"""With the settings of the allocator that our workers have: how much of a difference they make."""
GRID: dict[str, tuple[str, float, bool]] = {
    "fp32": ("float32", 0.0, False),
    "bf16": ("bfloat16", 0.0, False),
    "fp32-dropout": ("float32", 0.1, False),
    "bf16-dropout": ("bfloat16", 0.1, False),
    "fp32-compiled": ("float32", 0.0, True),
    "bf16-compiled": ("bfloat16", 0.0, True),
}
ROUNDS, QUICK_ROUNDS = 5, 1


def _groups() -> dict[str, Measure]:
    """Groups of cases by name; a quick run has two layers and short batches."""
    groups: dict[str, Measure] = {name: _measure(_alone, *chosen) for name, chosen in GRID.items()}
    return groups | {
        f"{layout}-{short}": _measure(_together, dtype, layout)
        for short, dtype in (("fp32", "float32"), ("bf16", "bfloat16"))
        for layout in LAYOUTS
    }


def _measure(compare: Callable[..., list[Case]], *chosen: Any) -> Measure:
    def measure(quick: bool) -> list[Case]:
        from train_runners import Job, write_weights

        with tempfile.TemporaryDirectory() as folder:
            rounds = QUICK_ROUNDS if quick else ROUNDS
            size = _size(chosen[0], quick)
            job = Job(folder, **size, steps=rounds * size["per_round"])
            write_weights(Path(folder), job)
            return compare(job, rounds, *chosen)

    return measure


def _size(dtype: str, quick: bool) -> dict[str, int]:
    """Of a job. Without bfloat16 products in the processor a peer needs minutes for a batch of the usual length."""
    import torch

    if quick:
        return {"layers": 2, "length": 32, "warmup": 1, "per_round": 1}
    if dtype == "bfloat16" and not torch.cpu.get_capabilities().get("avx512_bf16"):
        return {"length": 64, "warmup": 1, "per_round": 1}
    # The first steps after the others' turns are slower, by a tenth to a third: a round goes on.
    return {"length": 256, "warmup": 2, "per_round": 6}


def _alone(base: Any, rounds: int, dtype: str, dropout: float, compiled: bool) -> list[Case]:
    job = replace(base, dtype=dtype, dropout=dropout, compile=compiled)
    runners = {name: {"job": asdict(job), "runner": name, "layout": None} for name in ALONE}
    runners[ALIKE] = runners["transformers"]
    results = in_rounds(__file__, runners, _environments(runners), rounds)
    _same_losses(results, dtype, dropout)
    name = f"{dtype}, dropout {dropout:g}" + (", compiled" if compiled else "")
    return _cases(name, job, results)


def _together(base: Any, rounds: int, dtype: str, layout: str) -> list[Case]:
    job = replace(base, dtype=dtype)
    runners = {name: {"job": asdict(job), "runner": name, "layout": layout} for name in LAYOUTS[layout]}
    results = in_rounds(__file__, runners, _environments(runners), rounds)
    _same_losses(results, dtype, 0.0)
    note = "" if len(LAYOUTS[layout]) > 1 else "transformers has no tensor-parallel plan for OPT: no peer"
    return _cases(f"2 workers, {layout}, {dtype}", job, results, note)


def _environments(runners: Iterable[str]) -> dict[str, Mapping[str, str]]:
    return {name: AS_WORKERS if name in (OURS, ALIKE) else PLAIN for name in runners}


def _same_losses(results: Mapping[str, Mapping[str, Any]], dtype: str, dropout: float) -> None:
    """Parity first. With dropout the masks differ, and the Trainer's decay differs from the second step on."""
    if dropout:
        return
    expected = results[OURS]["losses"]
    for name, found in results.items():
        steps = 1 if name == "transformers Trainer" else COMPARED
        apart = max(abs(a - b) for a, b in zip(expected[:steps], found["losses"][:steps], strict=True))
        if not apart <= TOLERANCE[dtype]:
            raise RuntimeError(f"{name}: losses differ from ours by {apart}, allowed are {TOLERANCE[dtype]}; {found}")


def _cases(name: str, job: Any, results: Mapping[str, Mapping[str, Any]], notes: str = "") -> list[Case]:
    tokens = job.sequences * job.length
    note = f"batch {job.sequences} x {job.length}; {notes}" if notes else f"batch {job.sequences} x {job.length}"
    speed = {
        n: [tokens / seconds for seconds in _rounds(found["seconds"], job.per_round)] for n, found in results.items()
    }
    rss = {n: [found["rss_mib"]] for n, found in results.items()}
    return [case_of(name, "tokens/s", "higher", speed, note), case_of(name, "MiB peak", "lower", rss, note)]


def _rounds(seconds: Sequence[float], per_round: int) -> list[float]:
    """The fastest step of each round: what else runs on a machine only ever adds."""
    return [min(seconds[at : at + per_round]) for at in range(0, len(seconds), per_round)]


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
    run("train", _groups(), worker)
