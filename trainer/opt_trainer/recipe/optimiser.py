"""AdamW on this worker's float32 parts (arXiv 1711.05101): what a step asks of it, and which one it gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog
from torch import Tensor

from opt_api.documents.plan import Plan
from opt_model.native import KernelUnavailable
from opt_trainer.parallelism.build import WorkerModel
from opt_trainer.recipe.fused import FusedAdam
from opt_trainer.recipe.moments import Moments
from opt_trainer.recipe.one_pass import OnePassAdam

_log = structlog.get_logger("opt_trainer.recipe")


class Optimiser(Protocol):
    """Decay reaches every parameter, biases and layer norms included, as in the released code.

    Attributes:
        moments: What it remembers; a checkpoint is read into these tensors and into the parts' masters.
        takes_compute_format: Whether gradients may come in the format that the model computes in, not only in float32.
    """

    moments: Moments
    takes_compute_format: bool

    def restored(self) -> None:
        """Go on from what was read into the masters and the moments."""

    def squares(self, gradients: Sequence[Tensor]) -> Tensor:
        """This worker's shares of the squared norms of gradients and weights, float64 [2]; see `recipe.norm`."""

    def update(self, gradients: Sequence[Tensor], learning_rate: float, divisor: float) -> None:
        """One step, of what the model computes with as well.

        Args:
            gradients: One per part.
            learning_rate: Of this step.
            divisor: What gradients are divided by: loss scale and clipping in one.
        """


def optimiser_of(worker: WorkerModel, plan: Plan) -> Optimiser:
    """The one for the device: our compiled pass on a processor, else, and where that cannot be had, torch's kernel."""
    if plan.layout.device == "cpu":
        try:
            return OnePassAdam(worker, plan.recipe)
        except KernelUnavailable as fault:
            _log.warning("no compiled update, torch updates instead (slower)", reason=str(fault))
    return FusedAdam(worker, plan.recipe)


def clip_divisor(norm: float, clip: float, loss_scale: float) -> float:
    """What gradients are divided by: the loss scale, and more where their true norm is above `clip`.

    The small constant is that of torch's `clip_grad_norm_`.
    """
    return loss_scale * max(1.0, (norm + 1e-6) / clip)
