"""AdamW on this worker's float32 parts (arXiv 1711.05101), with clipping and unscaling inside the fused kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opt_api.documents.plan import RecipePlan
from opt_model.zeros import untouched_zeros
from opt_trainer.parallelism.build import Part

_LINE = 16
"""Numbers in a cache line; every tensor begins with one."""


class Optimiser:
    """Decay reaches every parameter, biases and layer norms included, as in the released code.

    Moments are there from the start, so that a checkpoint can be read into them before the first step.
    """

    def __init__(self, parts: Sequence[Part], recipe: RecipePlan) -> None:
        self._slots = [nn.Parameter(part.master, requires_grad=False) for part in parts]
        self._held = [slot for slot in self._slots if slot.numel()]
        self._adam = torch.optim.AdamW(
            self._held,
            lr=recipe.peak_learning_rate,
            betas=(recipe.beta1, recipe.beta2),
            eps=recipe.epsilon,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.updates = torch.zeros(1, dtype=torch.float32)
        """Updates made, [1]: Adam's own clock, which overflowing steps do not advance."""
        masters = [part.master for part in parts]
        self.first, self.second = _zeros_like(masters), _zeros_like(masters)
        for slot, first, second in zip(self._slots, self.first, self.second, strict=True):
            if slot.numel():
                step = torch.zeros((), dtype=torch.float32, device=slot.device)
                self._adam.state[slot] = {"step": step, "exp_avg": first, "exp_avg_sq": second}

    def restored(self) -> None:
        """Take Adam's clock from `updates`, after a checkpoint was read into the tensors."""
        for slot in self._held:
            self._adam.state[slot]["step"].fill_(self.updates.item())

    def update(self, gradients: Sequence[Tensor], learning_rate: float, divisor: Tensor) -> None:
        """One step with the gradients divided by `divisor`, a float32 scalar (loss scale and clipping in one)."""
        for slot, gradient in zip(self._slots, gradients, strict=True):
            slot.grad = gradient if slot.numel() else None
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.grad_scale = divisor  # type: ignore[attr-defined]  # read by the fused kernel, as GradScaler sets it
        self._adam.step()
        self.updates += 1
        for slot in self._held:
            slot.grad = None


def _zeros_like(masters: Sequence[Tensor]) -> list[Tensor]:
    """Zeros in the masters' shapes, whose memory the system provides when they are first touched.

    A recovery fills them at once with what was kept: zeros that are written before cost it a third of its memory work.
    """
    if not masters or masters[0].device.type != "cpu":
        return [torch.zeros_like(master) for master in masters]
    sizes = [-(-master.numel() // _LINE) * _LINE for master in masters]
    pieces = torch.split(untouched_zeros(sum(sizes), torch.float32), sizes)
    return [piece[: m.numel()].view(m.shape) for piece, m in zip(pieces, masters, strict=True)]


def clip_divisor(norm: float, clip: float, loss_scale: float) -> float:
    """What gradients are divided by: the loss scale, and more where their true norm is above `clip`.

    The small constant is that of torch's `clip_grad_norm_`.
    """
    return loss_scale * max(1.0, (norm + 1e-6) / clip)
