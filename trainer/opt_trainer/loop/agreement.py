"""What the workers agree on in each step, in one small sum over the gang.

Everything that all must do alike hangs on it: whether the step counts, whether to stop, whether to save, which change
is known to all. Signals and documents reach workers at different times; after the sum all know the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over the gang; divide by `workers` (or fewer) where each worker adds the same.

    Attributes:
        loss: Over the tokens of the batch, counted once per tensor-parallel worker, as are the next one.
        activation_norm: Over the tokens of the batch.
        gradient_square: Of the gradients as they came from the backward pass, scaled.
        parameter_square: Of the weights the step was computed with.
        stop: Workers that were asked to stop.
        busy: Workers whose last save is not durable yet.
        due: Workers whose clock says that a save is due.
        changes: Due changes that each worker has seen, and their squares in the next one: with n workers all have seen
            the same number exactly if n x squares = changes x changes (Cauchy and Schwarz).
    """

    loss: float
    activation_norm: float
    gradient_square: float
    parameter_square: float
    stop: float
    busy: float
    due: float
    changes: float
    changes_squared: float

    def common_changes(self, workers: int) -> int:
        """How many due changes may be applied now: what all have seen, 0 as long as some have seen more."""
        alike = workers * self.changes_squared == self.changes**2
        return round(self.changes / workers) if alike else 0


@dataclass(frozen=True, slots=True)
class Flags:
    """What one worker brings in; see `Sums`."""

    stop: bool = False
    busy: bool = False
    due: bool = False
    changes: int = 0


def agree(measured: Tensor, flags: Flags, *, alone: bool) -> Sums:
    """Add up over the gang.

    Args:
        measured: float64 [4]: loss, activation norm, gradient square, parameter square.
        flags: This worker's.
        alone: There is one worker only, and no process group.
    """
    said = torch.tensor(
        [flags.stop, flags.busy, flags.due, flags.changes, flags.changes**2],
        dtype=torch.float64,
        device=measured.device,
    )
    vector = torch.cat((measured, said))
    if not alone:
        dist.all_reduce(vector)
    return Sums(*vector.tolist())
