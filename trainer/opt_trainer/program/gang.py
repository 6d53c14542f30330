"""Joining the gang and leaving it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import _set_pg_timeout

from opt_trainer.program.config import WorkerConfig
from opt_trainer.program.meeting import meet

_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}


@contextmanager
def joined(config: WorkerConfig) -> Iterator[None]:
    """Within, the process group of the gang is up; one worker alone has none.

    All must join within the plan's deadline for `init`. A collective gives up after the longest of the plan's
    deadlines: whoever watches heartbeats is quicker.

    Raises:
        LostPeer: See `meet`.
    """
    layout, deadlines = config.plan.layout, config.plan.resilience.section_deadlines
    if layout.device == "cuda":
        torch.cuda.set_device(config.local_rank)
    if config.world_size == 1:
        yield
        return
    dist.init_process_group(
        _BACKENDS[layout.device],
        rank=config.rank,
        world_size=config.world_size,
        store=meet(config),
        timeout=timedelta(seconds=deadlines.init),
    )
    try:
        _set_pg_timeout(timedelta(seconds=max(deadlines.model_dump().values())))
        yield
    finally:
        dist.destroy_process_group()
