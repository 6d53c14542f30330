"""Two workers on this machine, one thread each: our layouts, and accelerate's on the same model and weights."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing import get_context
from multiprocessing.queues import Queue
from typing import Any

import torch
import torch.distributed as dist
from train_runners import (
    CLIP,
    Job,
    Result,
    build,
    our_step,
    plan_of,
    take_weights,
    their_adam,
    their_model,
    timed_steps,
)

WORKERS = 2
OUR_LAYOUTS: dict[str, dict[str, Any]] = {
    "FSDP2": {},
    "DDP": {"shard": 1},
    "TP": {"tensorParallel": 2},
}


def together(job: Job, runner: str, layout: str) -> Result:
    """Run a gang; rank 0's result."""
    context = get_context("spawn")
    results: Queue[Result] = context.Queue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    gang = [
        context.Process(target=_rank, args=(rank, port, asdict(job), runner, layout, results))
        for rank in range(WORKERS)
    ]
    for process in gang:
        process.start()
    try:
        return results.get(timeout=1200)
    finally:
        for process in gang:
            process.join(30)
            process.kill()


def _rank(rank: int, port: int, job: dict[str, Any], runner: str, layout: str, results: Queue[Result]) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": WORKERS, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update(
        {name: str(value) for name, value in place.items()}, ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1"
    )
    result = {"ours": _ours, "accelerate": _accelerate}[runner](Job(**job), rank, layout)
    if rank == 0:
        results.put(result)
    dist.destroy_process_group()


def _ours(job: Job, rank: int, layout: str) -> Result:
    dist.init_process_group("gloo")
    plan = plan_of(job, WORKERS, **OUR_LAYOUTS[layout])
    worker = build(plan, rank)
    from pathlib import Path

    take_weights(worker, Path(job.weights))
    return timed_steps(job, our_step(job, plan, worker))


def _accelerate(job: Job, rank: int, layout: str) -> Result:
    from accelerate import Accelerator, FullyShardedDataParallelPlugin

    plugin = None
    if layout == "FSDP2":
        policy = {"auto_wrap_policy": "transformer_based_wrap", "transformer_cls_names_to_wrap": ["OPTDecoderLayer"]}
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2, reshard_after_forward=True, **policy)
    precision = "bf16" if job.dtype == "bfloat16" else "no"
    accelerator = Accelerator(cpu=True, mixed_precision=precision, fsdp_plugin=plugin)
    model = their_model(job)
    model, adam = accelerator.prepare(model, their_adam(model))
    share = slice(rank * job.sequences // WORKERS, (rank + 1) * job.sequences // WORKERS)

    def step(number: int) -> float:
        block = job.batch(number)[share]
        with accelerator.autocast():
            loss = model(input_ids=block[:, :-1], labels=block[:, :-1], shift_labels=block[:, 1:].contiguous()).loss
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), CLIP)
        adam.step()
        adam.zero_grad()
        return float(accelerator.reduce(loss.detach(), "mean"))

    return timed_steps(job, step)


GANG_RUNNERS: dict[str, Callable[[Job, int, str], Result]] = {"ours": _ours, "accelerate": _accelerate}
