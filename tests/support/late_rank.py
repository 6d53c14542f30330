"""A gang of two in which one rank begins its last collective only once the other was seen to wait in it."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Thread

import torch
import torch.distributed as dist

from opt_trainer.telemetry.collectives import begun

PATIENCE_S = 30.0


def late(rank: int, seen: str) -> tuple[int, int]:
    """Collectives that this rank has begun while rank 0 waits, and after."""
    group = dist.new_group([0, 1])
    for _ in range(3):
        dist.all_reduce(torch.ones(2), group=group)
    dist.barrier()
    before = begun()
    watch = Thread(target=_watch, args=(before, Path(seen)), daemon=True)
    if rank == 0:
        watch.start()
    else:
        _wait_for(Path(seen))
        before = begun()
    dist.all_reduce(torch.ones(2), group=group)
    return before, begun()


def _watch(before: int, seen: Path) -> None:
    while begun() == before:
        time.sleep(0.01)
    seen.touch()


def _wait_for(seen: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while not seen.exists():
        assert time.monotonic() < until, "rank 0 was not seen waiting"
        time.sleep(0.01)
