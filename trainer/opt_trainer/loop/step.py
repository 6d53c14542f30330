"""One optimiser step: passes over the share, gradients, and the update once all agree that the step counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from opt_api.documents.plan import Plan
from opt_model.opt import LossSum
from opt_model.randomness import reseed
from opt_trainer.parallelism.build import WorkerModel
from opt_trainer.parallelism.gradients import gradients_of
from opt_trainer.recipe.optimiser import Optimiser, clip_divisor


class TrainStep:
    """Computes and updates; decides nothing."""

    def __init__(self, plan: Plan, worker: WorkerModel, optimiser: Optimiser) -> None:
        self._plan, self._worker, self._optimiser = plan, worker, optimiser
        self._device = torch.device(plan.layout.device)
        self._passes = _relative(plan, worker.place.data_rank)
        self._gradients = gradients_of(worker, len(self._passes), as_computed=optimiser.takes_compute_format)
        self._taken: Sequence[Tensor] = ()

    def compute(self, step: int, rows: Tensor, loss_scale: float) -> Tensor:
        """Forward and backward over this worker's share of a batch; the weights stay.

        Dropout's numbers are a function of (seed, step, pass, data-parallel rank): a resumed step draws the same.

        Args:
            step: Which step it is, from 1.
            rows: Tokens, int64 (share, sequence_length + 1).
            loss_scale: Factor on the gradients, 1 without float16.

        Returns:
            float64 [4]: this worker's sums of loss and activation norm, its share of the squared norms of the scaled
            gradients and of the weights.
        """
        sums = torch.zeros(2, dtype=torch.float64, device=self._device)
        scale = loss_scale / self._plan.tokens_per_step
        for number, part in enumerate(self._passes):
            self._gradients.begin(last=number == len(self._passes) - 1)
            reseed(self._plan.recipe.seed, step, number, self._worker.place.data_rank)
            sums += self._pass(rows[part].to(self._device), scale)
        self._taken = self._gradients.take()
        return torch.cat((sums, self._optimiser.squares(self._taken)))

    def nothing(self) -> Tensor:
        """What a skipped batch adds to the gang's sums."""
        return torch.zeros(4, dtype=torch.float64, device=self._device)

    def _pass(self, rows: Tensor, scale: float) -> Tensor:
        found = self._worker.model(rows[:, :-1], rows[:, 1:], gradient_scale=scale)
        assert isinstance(found, LossSum)
        found.loss.backward()  # type: ignore[no-untyped-call]
        return torch.stack((found.loss.detach(), found.activation_norm)).double()

    def update(self, learning_rate: float, norm: float, clip: float, loss_scale: float) -> None:
        """Change the weights by the gradients of the last `compute`.

        Args:
            learning_rate: Of this step.
            norm: Of the true gradients over the whole gang.
            clip: Largest norm allowed.
            loss_scale: That `compute` was given.
        """
        self._optimiser.update(self._taken, learning_rate, clip_divisor(norm, clip, loss_scale))
        self._taken = ()

    def drop(self) -> None:
        """Leave the update out."""
        self._taken = ()


def _relative(plan: Plan, data_rank: int) -> list[slice]:
    """The rows of a share that each pass takes."""
    first = plan.share(data_rank).start
    return [slice(part.start - first, part.stop - first) for part in plan.micro_batches(data_rank)]
