# ruff: noqa: N815 - names carry their shape
"""Cross entropy of one chunk of logits, and its gradient, for each way that a chunk is held.

C tokens of the chunk, V rows of the vocabulary that are here. Each function takes the logits, the targets counted from
the first row here, and the factor on the gradient (None where none is wanted), and returns the losses' sum in float32
with d(loss)/d(logits) x factor. Logits in float32 are overwritten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import log_softmax

ChunkLoss = Callable[[Tensor, Tensor, float | None], tuple[Tensor, Tensor | None]]


def divided(group: dist.ProcessGroup | None) -> ChunkLoss:
    """In place, in few passes; ranks of `group` hold the vocabulary's other rows."""

    def chunk_loss(logits_CV: Tensor, targets_C: Tensor, scale: float | None) -> tuple[Tensor, Tensor | None]:
        scores, loss_C1 = _scores(logits_CV.float(), targets_C, group)
        return loss_C1.sum(), None if scale is None else scores.to_gradient(scale)

    return chunk_loss


@dataclass
class _Scores:
    """Exponentials of a chunk's logits, their sums over the whole vocabulary, and the targets held here."""

    exp_CV: Tensor
    sum_C1: Tensor
    here_C1: Tensor
    local_C1: Tensor

    def to_gradient(self, scale: float) -> Tensor:
        """d(loss)/d(logits) x scale, made in place."""
        gradient = self.exp_CV.mul_(scale / self.sum_C1)
        gradient.scatter_add_(1, self.local_C1, self.here_C1 * -scale)
        return gradient


def _scores(logits_CV: Tensor, wanted_C: Tensor, group: dist.ProcessGroup | None) -> tuple[_Scores, Tensor]:
    rows = logits_CV.shape[1]
    here_C1 = ((wanted_C >= 0) & (wanted_C < rows)).float().unsqueeze(1)
    local_C1 = wanted_C.clamp(0, rows - 1).unsqueeze(1)
    top_C1 = logits_CV.amax(1, keepdim=True)
    if group is not None:
        dist.all_reduce(top_C1, dist.ReduceOp.MAX, group)
    logits_CV.sub_(top_C1)
    target_C1 = logits_CV.gather(1, local_C1) * here_C1
    exp_CV = logits_CV.exp_()
    both_2C1 = torch.stack((exp_CV.sum(1, keepdim=True), target_C1))
    if group is not None:
        dist.all_reduce(both_2C1, group=group)
    sum_C1, target_C1 = both_2C1[0], both_2C1[1]
    return _Scores(exp_CV, sum_C1, here_C1, local_C1), sum_C1.log() - target_C1


def whole(logits_CV: Tensor, targets_C: Tensor, scale: float | None) -> tuple[Tensor, Tensor | None]:
    """All rows on one CUDA device, where every pass over a chunk goes through memory."""
    targets_C1 = targets_C.unsqueeze(1)
    log_CV = log_softmax(logits_CV, 1, dtype=torch.float32)
    loss = log_CV.gather(1, targets_C1).sum().neg()
    if scale is None:
        return loss, None
    gradient = log_CV.exp_()
    gradient.scatter_add_(1, targets_C1, torch.full_like(targets_C1, -1.0, dtype=torch.float32))
    return loss, torch.mul(gradient, scale, out=logits_CV)


class Fused:
    """`whole` in one compiled pass: the vocabulary is read once for the sums and once for the gradient."""

    def __init__(self) -> None:
        self._compiled = torch.compile(_fused)

    def __call__(self, logits_CV: Tensor, targets_C: Tensor, scale: float | None) -> tuple[Tensor, Tensor | None]:
        """See the module."""
        if scale is None:
            return whole(logits_CV, targets_C, None)
        # the factor as a tensor: a number would be compiled in, and the loss scale of float16 changes
        loss, gradient = self._compiled(logits_CV, targets_C, logits_CV.new_full((), scale, dtype=torch.float32))
        return loss, gradient


def _fused(logits_CV: Tensor, targets_C: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    wide_CV = logits_CV.float()
    targets_C1 = targets_C.unsqueeze(1)
    top_C1 = wide_CV.amax(1, keepdim=True)
    exp_CV = (wide_CV - top_C1).exp()
    sum_C1 = exp_CV.sum(1, keepdim=True)
    loss = (sum_C1.log() + top_C1 - wide_CV.gather(1, targets_C1)).sum()
    ids_V = torch.arange(logits_CV.shape[1], device=logits_CV.device)
    gradient = exp_CV * (scale / sum_C1) - torch.where(ids_V == targets_C1, scale, 0.0)
    return loss, gradient.to(logits_CV.dtype)
