# ruff: noqa: N815 - names carry their shape
"""The tied head: logits, and the loss over the vocabulary without ever holding all logits.

The logits of N tokens take N x 50272 numbers, more than every block's activations together. The loss walks over the
tokens in chunks that stay in the cache and computes the gradient on the way, so that only one chunk is ever held and
nothing is computed twice (the scheme of Liger Kernel, arXiv 2410.10989, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

CHUNK_LOGITS = 256 * 50272
"""Logits held at a time."""


@dataclass(frozen=True)
class VocabularyShare:
    """Which rows of the embedding this rank holds."""

    weight_VE: Tensor
    first: int = 0
    group: dist.ProcessGroup | None = None
    """The ranks that hold the other rows; None when all rows are here."""


def share_of(weight: Tensor, group: dist.ProcessGroup | None) -> VocabularyShare:
    """The local rows of the embedding, which the group's ranks share evenly along the vocabulary."""
    local = weight.to_local() if isinstance(weight, DTensor) else weight
    return VocabularyShare(local, 0 if group is None else group.rank() * local.shape[0], group)


def token_logits(x: Tensor, share: VocabularyShare) -> Tensor:
    """Scores of every token of the vocabulary, [..., V]; gathered from all ranks that share the embedding."""
    local = torch.nn.functional.linear(x, share.weight_VE)
    return local if share.group is None else _gather_last(local, share.group)


def token_loss(x_NE: Tensor, share: VocabularyShare, targets: Tensor, gradient_scale: float = 1.0) -> Tensor:
    """Cross entropy in nats, summed over tokens, float32; gradients are multiplied by `gradient_scale`."""
    loss: Tensor = _TokenLoss.apply(
        x_NE, share.weight_VE, targets.flatten(), gradient_scale, share.first, share.group, torch.is_grad_enabled()
    )  # type: ignore[no-untyped-call]
    return loss


class _TokenLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_NE: Tensor,
        weight_VE: Tensor,
        targets_N: Tensor,
        scale: float,
        first: int,
        group: dist.ProcessGroup | None,
        wants_gradient: bool,
    ) -> Tensor:
        chunk = max(1, CHUNK_LOGITS // weight_VE.shape[0])
        loss = torch.zeros((), dtype=torch.float32, device=x_NE.device)
        gradients = _Gradients(x_NE, weight_VE) if wants_gradient else None
        for start in range(0, x_NE.shape[0], chunk):
            rows = slice(start, start + chunk)
            scores, part = _chunk_loss(x_NE[rows], weight_VE, targets_N[rows] - first, group)
            loss += part.sum()
            if gradients is not None:
                gradients.add(rows, scores.to_gradient(scale))
        if gradients is not None:
            ctx.save_for_backward(*gradients.finish(group))
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        dx_NE, dw_VE = ctx.saved_tensors
        return dx_NE.mul_(upstream), dw_VE.mul_(upstream), None, None, None, None, None


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


def _chunk_loss(
    x_CE: Tensor, weight_VE: Tensor, wanted_C: Tensor, group: dist.ProcessGroup | None
) -> tuple[_Scores, Tensor]:
    logits_CV = (x_CE @ weight_VE.t()).float()
    here_C1 = ((wanted_C >= 0) & (wanted_C < weight_VE.shape[0])).float().unsqueeze(1)
    local_C1 = wanted_C.clamp(0, weight_VE.shape[0] - 1).unsqueeze(1)
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


class _Gradients:
    """Gradients of the hidden states and of the embedding, added up chunk by chunk in float32."""

    def __init__(self, x_NE: Tensor, weight_VE: Tensor) -> None:
        self.x_NE, self.weight_VE = x_NE, weight_VE
        self.dx_NE = torch.empty_like(x_NE)
        self.dw_VE: Tensor | None = None

    def add(self, rows: slice, dlogits_CV: Tensor) -> None:
        """Take in one chunk."""
        dlogits_CV = dlogits_CV.to(self.x_NE.dtype)
        torch.mm(dlogits_CV, self.weight_VE, out=self.dx_NE[rows])
        if self.dw_VE is None:
            self.dw_VE = dlogits_CV.t() @ self.x_NE[rows]
        elif self.x_NE.dtype == torch.float32:
            self.dw_VE.addmm_(dlogits_CV.t(), self.x_NE[rows])
        else:
            self.dw_VE = self.dw_VE.float().add_(dlogits_CV.t() @ self.x_NE[rows])

    def finish(self, group: dist.ProcessGroup | None) -> tuple[Tensor, Tensor]:
        """(dx, dw); each rank has seen its rows of the vocabulary only, so dx is summed over the ranks."""
        if self.dw_VE is None:  # a pass without a sequence still takes part in every collective
            return self.dx_NE, torch.zeros_like(self.weight_VE)
        if group is not None:
            dist.all_reduce(self.dx_NE, group=group)
        return self.dx_NE, self.dw_VE.to(self.weight_VE.dtype)


def _gather_last(local: Tensor, group: dist.ProcessGroup) -> Tensor:
    parts = [torch.empty_like(local) for _ in range(group.size())]
    dist.all_gather(parts, local.contiguous(), group=group)
    return torch.cat(parts, dim=-1)
