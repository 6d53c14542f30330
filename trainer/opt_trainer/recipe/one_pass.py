"""AdamW as one compiled pass over memory, for processors: an update does little else than read and write.

In torch's own operations the gradients are widened to float32 and written, read for their norm, read and written by
the update, whose weights are read again for their norm and again to be copied into the format that the model computes
in. Here they are read as they are, twice, and each weight once (docs/decisions/0193-an-update-in-one-pass.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from opt_api.documents.plan import RecipePlan
from opt_trainer.parallelism.build import WorkerModel, local_of
from opt_trainer.recipe.moments import Moments
from opt_trainer.recipe.rows import rows_of


class _State(NamedTuple):
    """What an update changes, each a list of one tensor per part.

    Attributes:
        masters: Weights in float32.
        first: Their first moments.
        second: Their second moments.
        compute: Weights in the format that the model computes in; empty where these are the masters.
    """

    masters: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]
    compute: list[Tensor]


class OnePassAdam:
    """An `Optimiser` for a processor. R rows of C columns: see `recipe.rows`."""

    takes_compute_format = True

    def __init__(self, worker: WorkerModel, recipe: RecipePlan) -> None:
        self._worker, self._recipe, self.moments = worker, recipe, Moments(worker.parts)
        apart = any(part.parameter.dtype != part.master.dtype for part in worker.parts)
        masters = [part.master for part in worker.parts]
        compute = [local_of(part.parameter.detach()) for part in worker.parts] if apart else []
        self._state = _State(masters, self.moments.first, self.moments.second, compute)
        self._rows = rows_of(worker.parts)
        self._weight_square: Tensor | None = None
        self._squares: Callable[[Tensor], Tensor] = torch.compile(_squares, dynamic=True)
        self._square: Callable[[Tensor], Tensor] = torch.compile(_square, dynamic=True)
        self._update: Callable[..., Tensor] = torch.compile(_update, dynamic=True)

    def restored(self) -> None:
        """See `Optimiser.restored`."""
        self._weight_square = None
        self._worker.publish()

    def squares(self, gradients: Sequence[Tensor]) -> Tensor:
        """See `Optimiser.squares`."""
        if self._weight_square is None:
            self._weight_square = self._rows.share([self._weights_of(group) for group in self._rows.groups])
        of_gradients = [self._squares(self._rows.read(group, gradients)) for group in self._rows.groups]
        return torch.stack((self._rows.share(of_gradients), self._weight_square))

    def update(self, gradients: Sequence[Tensor], learning_rate: float, divisor: float) -> None:
        """See `Optimiser.update`."""
        self.moments.updates += 1
        rates = self._rates(learning_rate, divisor)
        self._weight_square = self._rows.share(
            [self._update_group(group, gradients, rates) for group in self._rows.groups]
        )

    def _update_group(self, group: Sequence[int], gradients: Sequence[Tensor], rates: Tensor) -> Tensor:
        masters_RC = self._rows.read(group, self._state.masters)
        others = [self._rows.read(group, tensors) if tensors else None for tensors in self._state[1:]]
        square = self._update(masters_RC, *others, self._rows.read(group, gradients), rates)
        for tensors, values_RC in zip(self._state, (masters_RC, *others), strict=True):
            if values_RC is not None:
                self._rows.write(group, tensors, values_RC)
        return square if len(group) == 1 else self._squares(masters_RC)

    def _weights_of(self, group: Sequence[int]) -> Tensor:
        """The squared norm of the weights of one matrix [], or of each row [R], as `_update_group` has it."""
        masters_RC = self._rows.read(group, self._state.masters)
        return self._square(masters_RC) if len(group) == 1 else self._squares(masters_RC)

    def _rates(self, learning_rate: float, divisor: float) -> Tensor:
        """The numbers of `_update` that may change from step to step, float32 [8]."""
        recipe, updates = self._recipe, int(self.moments.updates.item())
        return torch.tensor(
            [
                1.0 / divisor,
                1.0 - learning_rate * recipe.weight_decay,
                1.0 - recipe.beta1,
                recipe.beta2,
                1.0 - recipe.beta2,
                learning_rate / (1.0 - recipe.beta1**updates),
                1.0 / math.sqrt(1.0 - recipe.beta2**updates),
                recipe.epsilon,
            ]
        )


def _squares(values_RC: Tensor) -> Tensor:
    """The squared norm of each row, float32 [R]."""
    return values_RC.float().square().sum(1)


def _square(values_RC: Tensor) -> Tensor:
    """The squared norm of all, float32 []; torch's compiler sums so that it is off by less than 1e-6 of it."""
    return values_RC.square().sum()


def _update(
    master_RC: Tensor,
    first_RC: Tensor,
    second_RC: Tensor,
    compute_RC: Tensor | None,
    gradient_RC: Tensor,
    rates: Tensor,
) -> Tensor:
    """AdamW (arXiv 1711.05101, algorithm 2) in place; the squared norm of the new weights, float32 [].

    Of all of them: for one of each row torch would write them to memory once more, and read them again.
    """
    unscale, keep, new_first, keep_second, new_second, size, root, epsilon = rates.unbind()
    true_RC = gradient_RC.float() * unscale
    first_RC.lerp_(true_RC, new_first)
    second_RC.mul_(keep_second).add_(true_RC.square() * new_second)
    master_RC.mul_(keep).sub_(size * first_RC / (second_RC.sqrt() * root + epsilon))
    if compute_RC is not None:
        compute_RC.copy_(master_RC)
    return _square(master_RC)
