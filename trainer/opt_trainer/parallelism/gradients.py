"""How gradients get from backward passes to the optimiser: summed over passes and workers in float32, local."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from opt_trainer.parallelism.build import Part, WorkerModel, local_of
from opt_trainer.parallelism.place import REPLICATE

BUCKET_NUMBERS = 25 * 2**20 // 4
"""Gradients reduced at a time, so that reducing begins while the backward pass still runs."""


class Gradients(Protocol):
    """One step's gradients."""

    def begin(self, *, last: bool) -> None:
        """A backward pass follows; `last` of the step."""

    def take(self) -> list[Tensor]:
        """The sums, one per part, in the parts' order; call it once, after the last pass."""


def gradients_of(worker: WorkerModel, passes: int, *, as_computed: bool) -> Gradients:
    """The way that fits the worker's layout and number format.

    Args:
        worker: Whose gradients.
        passes: Backward passes of a step; the sum of several needs float32.
        as_computed: Whether gradients may stay in the format that the model computes in.
    """
    replicated = worker.place.data_parallel > 1 and not worker.sharded
    group = worker.mesh.get_group(REPLICATE) if worker.mesh is not None and replicated else None
    widened = any(part.parameter.dtype != torch.float32 for part in worker.parts) and not (as_computed and passes == 1)
    return BucketedGradients(worker.parts, group) if widened or group is not None else DirectGradients(worker.parts)


class DirectGradients:
    """As autograd leaves them: one worker, whose passes autograd adds up, or FSDP, which reduces after each pass."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    def begin(self, *, last: bool) -> None:
        """See `Gradients.begin`."""

    def take(self) -> list[Tensor]:
        """See `Gradients.take`; a parameter without gradient is a fault of the model."""
        found = [part.parameter.grad for part in self._parts]
        for part in self._parts:
            part.parameter.grad = None
        return [local_of(gradient) for gradient in found if gradient is not None]


class BucketedGradients:
    """Gradients move into flat float32 buckets as they appear; full buckets are summed over replicas meanwhile."""

    def __init__(self, parts: Sequence[Part], group: dist.ProcessGroup | None) -> None:
        self._group = group
        self._views: dict[str, Tensor] = {}
        self._bucket_of: dict[str, int] = {}
        self._buckets = [self._bucket(number, names) for number, names in enumerate(_grouped(parts))]
        self._names = [part.name for part in parts]
        self._waiting: list[int] = []
        self._running: list[dist.Work] = []
        self._last = False
        for part in parts:
            part.parameter.register_post_accumulate_grad_hook(self._hook(part.name))  # type: ignore[no-untyped-call]

    def begin(self, *, last: bool) -> None:
        """See `Gradients.begin`."""
        self._last = last
        if last:
            self._waiting = [list(self._bucket_of.values()).count(number) for number in range(len(self._buckets))]

    def take(self) -> list[Tensor]:
        """See `Gradients.take`."""
        for work in self._running:
            work.wait()
        self._running.clear()
        return [self._views[name] for name in self._names]

    def _bucket(self, number: int, parts: list[Part]) -> Tensor:
        flat = torch.empty(sum(part.master.numel() for part in parts), device=parts[0].master.device)
        at = 0
        for part in parts:
            self._views[part.name] = flat[at : at + part.master.numel()].view(part.master.shape)
            self._bucket_of[part.name] = number
            at += part.master.numel()
        return flat

    def _hook(self, name: str) -> Callable[[Tensor], None]:
        seen = False

        def arrived(parameter: Tensor) -> None:
            nonlocal seen
            assert parameter.grad is not None
            gradient = local_of(parameter.grad)
            parameter.grad = None
            view = self._views[name]
            if seen:
                view.add_(gradient)
            else:
                view.copy_(gradient)
            seen = not self._last
            if self._last:
                self._done(self._bucket_of[name])

        return arrived

    def _done(self, number: int) -> None:
        self._waiting[number] -= 1
        if self._group is not None and self._waiting[number] == 0:
            work = dist.all_reduce(self._buckets[number], group=self._group, async_op=True)
            assert work is not None
            self._running.append(work)


def _grouped(parts: Sequence[Part]) -> list[list[Part]]:
    """Parts in the order in which a backward pass reaches them, cut where a bucket is full."""
    groups: list[list[Part]] = [[]]
    held = 0
    for part in reversed(parts):
        if groups[-1] and held + part.master.numel() > BUCKET_NUMBERS:
            groups.append([])
            held = 0
        groups[-1].append(part)
        held += part.master.numel()
    return groups
