"""Train step of OPT-125M on one CUDA device beside transformers: bf16, compiled bf16, fp16 with a loss scale; MFU.

Runs as it is on one H200: `python benchmarks/train_gpu.py --json`. Model FLOPs utilisation is against the chip's dense
peak in that format, from the maker's data sheet as in `opt_api.estimate.devices`.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common import OURS, Case, case_of, interleaved, measured, run

RUNNERS = ("ours", "transformers", "transformers Trainer")
GRID = (("bfloat16", False), ("bfloat16", True), ("float16", False))
TOLERANCE = 5e-2


def measure(quick: bool) -> list[Case]:
    """All cases; without a device it says so and ends."""
    import torch
    from train_runners import Job, write_weights

    if not torch.cuda.is_available():
        sys.exit("benchmarks/train_gpu.py: found 0 CUDA devices, 1 is needed; benchmarks/train.py measures on the CPU")
    with tempfile.TemporaryDirectory() as folder:
        base = Job(folder, sequences=8 if quick else 32, length=2048, steps=5 if quick else 20, warmup=5, device="cuda")
        write_weights(Path(folder), base.layers)
        return [case for chosen in GRID for case in _compare(base, 1 if quick else 5, *chosen)]


def _compare(base: Any, repeats: int, dtype: str, compiled: bool) -> list[Case]:
    job = replace(base, dtype=dtype, compile=compiled)
    runners = {name: lambda name=name: measured(__file__, {"job": asdict(job), "runner": name}) for name in RUNNERS}
    results = interleaved(runners, repeats)
    first = {name: found[0]["losses"][0] for name, found in results.items()}
    if max(first.values()) - min(first.values()) > TOLERANCE:
        raise RuntimeError(f"{dtype}: first losses differ by more than {TOLERANCE}: {first}")
    return _cases(job, results)


def _cases(job: Any, results: Mapping[str, list[Mapping[str, Any]]]) -> list[Case]:
    from opt_api.estimate.devices import DEVICES

    name = f"{job.dtype}" + (", compiled" if job.compile else "") + f", {results[OURS][0]['device']}"
    tokens, peak = job.sequences * job.length, DEVICES["h200-141gb"].peak[job.dtype]
    speed = {n: [tokens / statistics.median(r["seconds"]) for r in found] for n, found in results.items()}
    flops = job.shape.model_flops_per_token(job.length)
    utilisation = {n: [rate * flops / peak for rate in rates] for n, rates in speed.items()}
    memory = {n: [r["memory_mib"] for r in found] for n, found in results.items()}
    note = f"batch {job.sequences} x {job.length}; peak {peak:.3g} FLOP/s of an H200"
    return [
        case_of(name, "tokens/s", "higher", speed, note),
        case_of(name, "MFU", "higher", utilisation, note),
        case_of(name, "MiB peak", "lower", memory, note),
    ]


def worker(job: dict[str, Any]) -> dict[str, Any]:
    """One run in this process."""
    import torch
    from train_runners import RUNNERS as FUNCTIONS
    from train_runners import Job

    result = FUNCTIONS[job["runner"]](Job(**job["job"]))
    memory = torch.cuda.max_memory_allocated() / 2**20
    return {**asdict(result), "memory_mib": memory, "device": torch.cuda.get_device_name()}


if __name__ == "__main__":
    run("train_gpu", measure, worker)
