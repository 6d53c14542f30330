"""AdamW as one compiled pass over memory, for processors: an update does little else than read and write.

In torch's own operations the gradients are widened to float32 and written, read for their norm, read and written by
the update, whose weights are read again for their norm and again to be copied into the format that the model computes
in. Here they are read as they are, twice, and each weight once (docs/decisions/0193-an-update-in-one-pass.md).
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from opt_api.documents.plan import RecipePlan
from opt_trainer.parallelism.build import WorkerModel, local_of
from opt_trainer.recipe.kernel import FORMATS, CPart, CRates, load
from opt_trainer.recipe.moments import Moments


class OnePassAdam:
    """An `Optimiser` for a processor.

    Raises:
        opt_model.native.KernelUnavailable: Nothing is compiled, and there is no compiler.
    """

    takes_compute_format = True

    def __init__(self, worker: WorkerModel, recipe: RecipePlan, level: str | None = None) -> None:
        self._worker, self._recipe, self.moments = worker, recipe, Moments(worker.parts)
        self._library = load(level)
        parts = worker.parts
        apart = parts[0].parameter.dtype != parts[0].master.dtype
        self._compute = [local_of(part.parameter.detach()) for part in parts] if apart else []
        assert all(tensor.is_contiguous() for tensor in [*self._compute, *(part.master for part in parts)])
        self._shares = torch.tensor([1.0 / part.box.copies for part in parts], dtype=torch.float64)
        """By how much a part's squares count: one by the workers that hold the same."""
        self._weight_squares: Tensor | None = None

    def restored(self) -> None:
        """See `Optimiser.restored`."""
        self._weight_squares = None
        self._worker.publish()

    def squares(self, gradients: Sequence[Tensor]) -> Tensor:
        """See `Optimiser.squares`."""
        if self._weight_squares is None:
            self._weight_squares = self._squares([part.master for part in self._worker.parts])
        return torch.stack((self._squares(gradients) @ self._shares, self._weight_squares @ self._shares))

    def update(self, gradients: Sequence[Tensor], learning_rate: float, divisor: float) -> None:
        """See `Optimiser.update`."""
        self.moments.updates += 1
        given = _plain(gradients)
        masters = [part.master for part in self._worker.parts]
        parts = _parts(masters, self.moments.first, self.moments.second, self._compute, given)
        rates, squares = self._rates(learning_rate, divisor), _room(given)
        formats = _format(given), _format(self._compute or masters)
        self._library.update_all(
            parts, len(parts), *formats, ctypes.byref(rates), torch.get_num_threads(), squares.data_ptr()
        )
        self._weight_squares = squares

    def _squares(self, tensors: Sequence[Tensor]) -> Tensor:
        """The squared norm of each, float64 [parts]."""
        given = _plain(tensors)
        parts, squares = _parts([], [], [], [], given), _room(given)
        self._library.update_squares(parts, len(parts), _format(given), torch.get_num_threads(), squares.data_ptr())
        return squares

    def _rates(self, learning_rate: float, divisor: float) -> CRates:
        """The numbers of an update that may change from step to step."""
        recipe, updates = self._recipe, int(self.moments.updates.item())
        return CRates(
            unscale=1.0 / divisor,
            keep=1.0 - learning_rate * recipe.weight_decay,
            new_first=1.0 - recipe.beta1,
            keep_second=recipe.beta2,
            new_second=1.0 - recipe.beta2,
            size=learning_rate / (1.0 - recipe.beta1**updates),
            root=1.0 / math.sqrt(1.0 - recipe.beta2**updates),
            epsilon=recipe.epsilon,
        )


def _plain(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Each with its numbers in a row, as those of the masters are."""
    return [tensor.contiguous() for tensor in tensors]


def _format(tensors: Sequence[Tensor]) -> int:
    """The one number format that all of them have."""
    (only,) = {tensor.dtype for tensor in tensors}
    return FORMATS[only]


def _room(tensors: Sequence[Tensor]) -> Tensor:
    return torch.empty(len(tensors), dtype=torch.float64)


def _parts(*columns: Sequence[Tensor]) -> ctypes.Array[CPart]:
    """The structures of all parts from what they have of each kind, in the order of `CPart`; gradients come last."""
    gradients = columns[-1]
    addresses = [[t.data_ptr() for t in tensors] or [0] * len(gradients) for tensors in columns]
    rows = zip(*addresses, strict=True)
    parts = (CPart(*row, gradient.numel()) for row, gradient in zip(rows, gradients, strict=True))
    return (CPart * len(gradients))(*parts)
