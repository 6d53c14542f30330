"""Joining the gang and leaving it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from opt_trainer.program.config import WorkerConfig

_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}


@contextmanager
def joined(config: WorkerConfig) -> Iterator[None]:
    """Within, the process group of the gang is up; one worker alone has none.

    A collective gives up after the longest of the plan's deadlines: whoever watches heartbeats is quicker.
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
        store=config.meeting,
        timeout=timedelta(seconds=max(deadlines.model_dump().values())),
    )
    try:
        yield
    finally:
        dist.destroy_process_group()
