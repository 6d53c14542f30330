"""Two workers on this machine, one thread each: our layouts, and others' on the same weights."""

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
from torch import Tensor
from train_runners import (
    CLIP,
    Job,
    Result,
    Step,
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
    result = GANG_RUNNERS[runner](Job(**job), rank, layout)
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


def _accelerate(job: Job, rank: int, _layout: str) -> Result:
    """accelerate's DDP. Its FSDP plugin is for accelerators: on processors it is passed over, and DDP runs instead."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if job.dtype == "bfloat16" else "no")
    model = their_model(job)
    model, adam = accelerator.prepare(model, their_adam(model))

    def passes(block: Tensor) -> Tensor:
        with accelerator.autocast():
            loss = _loss(model, block)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), CLIP)
        return loss

    return timed_steps(job, _their_step(job, rank, passes, adam))


def _fully_shard(job: Job, rank: int, _layout: str) -> Result:
    """torch's FSDP2 over transformers' model, divided as accelerate would: blocks, and the rest."""
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    model = their_model(job)
    short = torch.bfloat16 if job.dtype == "bfloat16" else None
    for part in (*model.model.decoder.layers, model):
        fully_shard(part, mp_policy=MixedPrecisionPolicy(param_dtype=short, reduce_dtype=torch.float32))
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.set_force_sum_reduction_for_comms(True)  # gloo has no average

    def passes(block: Tensor) -> Tensor:
        loss = _loss(model, block)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        return loss

    return timed_steps(job, _their_step(job, rank, passes, their_adam(model)))


def _loss(model: Any, block: Tensor) -> Tensor:
    found: Tensor = model(input_ids=block[:, :-1], labels=block[:, :-1], shift_labels=block[:, 1:].contiguous()).loss
    return found


def _their_step(job: Job, rank: int, passes: Callable[[Tensor], Tensor], adam: torch.optim.Optimizer) -> Step:
    share = slice(rank * job.sequences // WORKERS, (rank + 1) * job.sequences // WORKERS)

    def step(number: int) -> float:
        loss = passes(job.batch(number)[share]).detach()
        adam.step()
        adam.zero_grad()
        dist.all_reduce(loss)
        return float(loss) / WORKERS

    return step


GANG_RUNNERS: dict[str, Callable[[Job, int, str], Result]] = {
    "ours": _ours,
    "accelerate": _accelerate,
    "fully_shard": _fully_shard,
}
