"""What FSDP2 asks of gloo, done straight: each shard is sent once, to whoever needs it (docs/decisions/0197).

gloo's reduce-scatter is an all-reduce of a copy of which one part is kept, and its all-gather goes through a buffer of
its own. Sums are added up in the order of ranks, so that a gang of one size always computes the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp._fully_shard._fsdp_api import AllGather, ReduceScatter
from torch.distributed.fsdp._fully_shard._fsdp_collectives import DefaultAllocMixin


def exchange_straight(part: FSDPModule) -> None:
    """Let a group of parameters be gathered and reduced by what is here."""
    part.set_custom_all_gather(StraightGather())
    part.set_custom_reduce_scatter(StraightSums())


class Arrivals(dist.Work):
    """Several transfers, waited for as one."""

    def __init__(self, transfers: Sequence[dist.Work]) -> None:
        super().__init__()
        self._transfers = transfers

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Until all have come; raises RuntimeError when a peer is lost or its group's time is over."""
        done = [transfer.wait() if timeout is None else transfer.wait(timeout) for transfer in self._transfers]
        return all(done)


class StraightGather(DefaultAllocMixin, AllGather):
    """Every worker sends its shard to every other and receives theirs in place."""

    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: dist.ProcessGroup, async_op: bool = False
    ) -> dist.Work | None:
        """Bring the shards of all ranks into `output_tensor`, in their order.

        Args:
            output_tensor: [ranks x n] numbers; the part of this rank may be `input_tensor` itself.
            input_tensor: [n] numbers, this rank's shard.
            group: Whose ranks.
            async_op: Whether to return what to wait for, in place of waiting.
        """
        rank, ranks = group.rank(), group.size()
        shards = output_tensor.view(ranks, -1)
        if shards[rank].data_ptr() != input_tensor.data_ptr():
            shards[rank].copy_(input_tensor)
        others = [(rank + away) % ranks for away in range(1, ranks)]
        coming = [dist.irecv(shards[other], group=group, group_src=other) for other in others]
        going = [dist.isend(input_tensor, group=group, group_dst=other) for other in reversed(others)]
        arrivals = Arrivals([transfer for transfer in (*coming, *going) if transfer is not None])
        if async_op:
            return arrivals
        arrivals.wait()
        return None


class StraightSums(DefaultAllocMixin, ReduceScatter):
    """Every worker sends every other the part that it keeps, and adds up what it was sent."""

    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: dist.ProcessGroup, op: object, async_op: bool = False
    ) -> None:
        """Bring the sum over all ranks of this rank's part into `output_tensor`.

        Args:
            output_tensor: [n] numbers.
            input_tensor: [ranks x n] numbers.
            group: Whose ranks; two or more.
            op: Must be a sum, or ValueError is raised.
            async_op: FSDP2 never asks for it.
        """
        if op != dist.ReduceOp.SUM:
            raise ValueError(f"reduce-scatter asked for {op}: only sums are made here; FSDP2 is told so by `sharded`")
        arrived = torch.empty_like(input_tensor)
        dist.all_to_all_single(arrived, input_tensor, group=group)
        first, second, *others = arrived.view(group.size(), -1)
        torch.add(first, second, out=output_tensor)
        for other in others:
            output_tensor.add_(other)
