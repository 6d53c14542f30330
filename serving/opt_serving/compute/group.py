"""Ranks that each hold a share of every matrix and put their results together (Megatron-LM, arXiv 1909.08053, 3)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import Store  # type: ignore[attr-defined]

from opt_serving.compute.shares import WHOLE, Share

TIMEOUT = timedelta(seconds=120)
"""For one exchange; a rank that is silent for longer is given up."""


class Group(Protocol):
    """The ranks of one model."""

    @property
    def share(self) -> Share:
        """This process's number, and how many there are."""

    def sum(self, x: Tensor) -> Tensor:
        """The sum of every rank's tensor, on each; all of one shape."""

    def side_by_side(self, x: Tensor) -> Tensor:
        """[..., K] of every rank -> [..., K x size], on each."""


class Alone:
    """One rank that holds everything."""

    share = WHOLE

    def sum(self, x: Tensor) -> Tensor:
        """See `Group`."""
        return x

    def side_by_side(self, x: Tensor) -> Tensor:
        """See `Group`."""
        return x


class Ranks:
    """Several; each call must be made by all of them, in the same order.

    Sums are made in the order of the ranks, so that a row's result does not depend on what else is in the pass: a ring
    begins each part of a tensor at another rank.
    """

    def __init__(self, share: Share, store: Store, device: torch.device) -> None:
        self.share = share
        self._store, self._device = store, device
        self._processes: Any = None  # torch's stubs know the back ends as no common class

    def connect(self) -> None:
        """Meet the others; waits for all.

        Raises:
            RuntimeError: One did not come in time.
        """
        rank, size = self.share.rank, self.share.size
        if self._device.type == "cpu":
            self._processes = dist.ProcessGroupGloo(self._store, rank, size, TIMEOUT)
        else:
            self._processes = dist.ProcessGroupNCCL(self._store, rank, size, dist.ProcessGroupNCCL.Options())

    def sum(self, x: Tensor) -> Tensor:
        """See `Group`."""
        first, *others = self._all(x)
        for other in others:
            first += other
        return first

    def side_by_side(self, x: Tensor) -> Tensor:
        """See `Group`."""
        return torch.cat(self._all(x), dim=-1)

    def _all(self, x: Tensor) -> list[Tensor]:
        assert self._processes is not None, "connect first"
        found = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(self.share.size)]
        self._processes.allgather([found], [x.contiguous()]).wait()
        return found
