"""AdamW by torch's fused kernel, which unscales and clips as well."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opt_api.documents.plan import RecipePlan
from opt_trainer.parallelism.build import WorkerModel
from opt_trainer.recipe.moments import Moments
from opt_trainer.recipe.norm import square_share


class FusedAdam:
    """An `Optimiser`: the norms, the update and the copy into what the model computes with are passes of their own."""

    takes_compute_format = False

    def __init__(self, worker: WorkerModel, recipe: RecipePlan) -> None:
        self._worker, self.moments = worker, Moments(worker.parts)
        self._slots = [nn.Parameter(part.master, requires_grad=False) for part in worker.parts]
        self._held = [slot for slot in self._slots if slot.numel()]
        self._adam = torch.optim.AdamW(
            self._held,
            lr=recipe.peak_learning_rate,
            betas=(recipe.beta1, recipe.beta2),
            eps=recipe.epsilon,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        for slot, first, second in zip(self._slots, self.moments.first, self.moments.second, strict=True):
            if slot.numel():
                step = torch.zeros((), dtype=torch.float32, device=slot.device)
                self._adam.state[slot] = {"step": step, "exp_avg": first, "exp_avg_sq": second}

    def restored(self) -> None:
        """See `Optimiser.restored`."""
        for slot in self._held:
            self._adam.state[slot]["step"].fill_(self.moments.updates.item())
        self._worker.publish()

    def squares(self, gradients: Sequence[Tensor]) -> Tensor:
        """See `Optimiser.squares`."""
        parts = self._worker.parts
        return torch.cat((square_share(parts, gradients), square_share(parts, [part.master for part in parts])))

    def update(self, gradients: Sequence[Tensor], learning_rate: float, divisor: float) -> None:
        """See `Optimiser.update`."""
        for slot, gradient in zip(self._slots, gradients, strict=True):
            slot.grad = gradient if slot.numel() else None
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        # read by the fused kernel, as GradScaler sets it; with one it writes the gradients as well
        self._adam.grad_scale = None if divisor == 1.0 else self._scalar(divisor)  # type: ignore[attr-defined]
        self._adam.step()
        self.moments.updates += 1
        for slot in self._held:
            slot.grad = None
        self._worker.publish()

    def _scalar(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float32, device=self._slots[0].device)
