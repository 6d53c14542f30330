"""What ranks do in tests of straight exchanges; functions of a rank that a gang can import."""

from __future__ import annotations

import torch
import torch.distributed as dist

from opt_trainer.parallelism.gloo import StraightGather, StraightSums
from opt_trainer.program.ending import cause_of

SHARD = 1000
GATHERS = 4
"""Gathers in flight at once, as FSDP2 fetches ahead."""


def shard_of(rank: int, number: int) -> torch.Tensor:
    """What a rank gives to gather `number`."""
    return torch.arange(SHARD, dtype=torch.float32).add(10_000 * rank + 100_000 * number).bfloat16()


def gathered(rank: int) -> list[torch.Tensor]:
    """Several gathers begun before the first is waited for; the shard of the last lies in its output."""
    gather, group = StraightGather(), dist.group.WORLD
    assert group is not None
    size = torch.Size([dist.get_world_size() * SHARD])
    outputs = [gather.allocate(size, dtype=torch.bfloat16, device=torch.device("cpu")) for _ in range(GATHERS)]
    works = []
    for number, output in enumerate(outputs):
        shard = shard_of(rank, number)
        if number == GATHERS - 1:
            shard = output[rank * SHARD : (rank + 1) * SHARD].copy_(shard)
        works.append(gather(output, shard, group, async_op=number != 0))
    assert works[0] is None
    for work in works[1:]:
        assert work is not None
        assert work.wait()
    return outputs


def parts_of(rank: int, ranks: int) -> torch.Tensor:
    """What a rank brings to a sum, one part for each rank, of numbers whose sum depends on its order."""
    return torch.randn(ranks * SHARD, generator=torch.Generator().manual_seed(rank)) * 10.0 ** (rank * 2)


def summed(rank: int) -> torch.Tensor:
    """This rank's part of the sum."""
    sums, group = StraightSums(), dist.group.WORLD
    assert group is not None
    output = sums.allocate(torch.Size([SHARD]), dtype=torch.float32, device=torch.device("cpu"))
    sums(output, parts_of(rank, dist.get_world_size()), group, dist.ReduceOp.SUM)
    return output


def averaged(_rank: int) -> str:
    """What is said of an average."""
    group = dist.group.WORLD
    assert group is not None
    try:
        StraightSums()(torch.empty(SHARD), torch.ones(2 * SHARD), group, dist.ReduceOp.AVG)
    except ValueError as refused:
        return str(refused)
    return ""


def left_alone(rank: int) -> str:
    """Rank 1 leaves before or while rank 0 sends and waits; the cause with which rank 0 would end."""
    group = dist.group.WORLD
    assert group is not None
    if rank == 1:
        return ""
    output = torch.empty(2 * SHARD, dtype=torch.bfloat16)
    try:
        work = StraightGather()(output, shard_of(rank, 0), group, async_op=True)
        assert work is not None
        work.wait()
    except RuntimeError as lost:
        return cause_of(lost)
    return "it came"
