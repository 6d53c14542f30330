"""Train step on one CUDA device beside transformers: tokens/s, MFU, memory; bf16, compiled bf16, fp16 with a scale.

Runs as it is on one H200: `python benchmarks/train_gpu.py --json`. Model FLOPs utilisation is against the chip's dense
peak in that format, from the maker's data sheet as in `opt_api.estimate.devices`. All runners are warm at the same
time, each a process of its own on the one device; their rounds are interleaved.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common import OURS, Case, Measure, case_of, run
from train_rounds import in_rounds

RUNNERS = ("ours", "transformers", "transformers Trainer")
SIZES: dict[str, dict[str, Any]] = {
    "125m": {"preset": "opt-125m", "layers": 12, "sequences": 16, "length": 2048},
    "1.3b": {"preset": "opt-1.3b", "layers": 24, "sequences": 4, "length": 2048},
}
GRID = {"bf16": ("bfloat16", False), "bf16-compiled": ("bfloat16", True), "fp16": ("float16", False)}
TOLERANCE = 5e-2
"""Largest difference of first losses, nats of about 10.8."""
ROUNDS, QUICK_ROUNDS = 5, 1


def _measure(size: str, dtype: str, compiled: bool) -> Measure:
    def measure(quick: bool) -> list[Case]:
        """Without a device it says so and ends."""
        import torch
        from train_runners import Job, write_weights

        if not torch.cuda.is_available():
            words = f"{__file__}: found 0 CUDA devices, 1 is needed; benchmarks/train.py measures on the CPU"
            print(words, file=sys.stderr)
            sys.exit(os.EX_UNAVAILABLE)
        rounds, small = (QUICK_ROUNDS, {"layers": 2}) if quick else (ROUNDS, {})
        with tempfile.TemporaryDirectory() as folder:
            job = Job(folder, **{**SIZES[size], **small}, steps=rounds * 4, warmup=5, per_round=4, device="cuda")
            write_weights(Path(folder), job)
            return _compare(size, replace(job, dtype=dtype, compile=compiled), rounds)

    return measure


def _compare(size: str, job: Any, rounds: int) -> list[Case]:
    jobs = {name: {"job": asdict(job), "runner": name} for name in RUNNERS}
    results = in_rounds(__file__, jobs, {}, rounds)
    first = {name: found["losses"][0] for name, found in results.items()}
    if max(first.values()) - min(first.values()) > TOLERANCE:
        raise RuntimeError(f"{job.dtype}: first losses differ by more than {TOLERANCE}: {first}")
    return _cases(size, job, results)


def _cases(size: str, job: Any, results: Mapping[str, Mapping[str, Any]]) -> list[Case]:
    from opt_api.estimate.devices import DEVICES

    name = f"OPT-{size}, {job.dtype}" + (", compiled" if job.compile else "") + f", {results[OURS]['device']}"
    tokens, peak = job.sequences * job.length, DEVICES["h200-141gb"].peak[job.dtype]
    speed = {n: [tokens / seconds for seconds in _rounds(found, job.per_round)] for n, found in results.items()}
    flops = job.shape.model_flops_per_token(job.length)
    utilisation = {n: [100 * rate * flops / peak for rate in rates] for n, rates in speed.items()}
    memory = {n: [found["memory_mib"]] for n, found in results.items()}
    note = f"batch {job.sequences} x {job.length}; peak {peak:.3g} FLOP/s; torch {results[OURS]['torch']}"
    return [
        case_of(name, "tokens/s", "higher", speed, note),
        case_of(name, "% MFU", "higher", utilisation, note),
        case_of(name, "MiB peak", "lower", memory, note),
    ]


def _rounds(found: Mapping[str, Any], per_round: int) -> list[float]:
    """The median step of each round."""
    seconds = found["seconds"]
    return [statistics.median(seconds[at : at + per_round]) for at in range(0, len(seconds), per_round)]


def worker(job: dict[str, Any]) -> dict[str, Any]:
    """One run in this process."""
    import torch
    from train_runners import RUNNERS as FUNCTIONS
    from train_runners import Job

    result = FUNCTIONS[job["runner"]](Job(**job["job"]))
    memory = torch.cuda.max_memory_allocated() / 2**20
    device = torch.cuda.get_device_name()
    return {**asdict(result), "memory_mib": memory, "device": device, "torch": torch.__version__}


if __name__ == "__main__":
    groups = {f"{size}-{name}": _measure(size, *chosen) for size in SIZES for name, chosen in GRID.items()}
    run("train_gpu", groups, worker)
