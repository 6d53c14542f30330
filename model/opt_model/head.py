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

from opt_model.embedding import TiedGradient
from opt_model.linear import widened

CHUNK_LOGITS = 512 * 50272
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
    # a DTensor has it; its class is not named here, because its module takes a second to load
    local = weight.to_local() if hasattr(weight, "to_local") else weight
    return VocabularyShare(local, 0 if group is None else group.rank() * local.shape[0], group)


def token_logits(x: Tensor, share: VocabularyShare) -> Tensor:
    """Scores of every token of the vocabulary, [..., V]; gathered from all ranks that share the embedding."""
    wide = x.float() if widened(x, share.weight_VE) else x
    local = torch.nn.functional.linear(wide, share.weight_VE.to(wide.dtype))
    return local if share.group is None else _gather_last(local, share.group)


def token_loss(
    x_NE: Tensor,
    share: VocabularyShare,
    targets: Tensor,
    gradient_scale: float = 1.0,
    tied: TiedGradient | None = None,
) -> Tensor:
    """Cross entropy in nats, summed over tokens, float32.

    Args:
        x_NE: What the head reads.
        share: Rows of the embedding that are here.
        targets: The token ids wanted, N of them in any shape.
        gradient_scale: Factor on the gradients.
        tied: Takes the embedding's gradient, for the look-up to add its own; None to give it to autograd.
    """
    loss: Tensor = _TokenLoss.apply(
        x_NE, share.weight_VE, targets.flatten(), gradient_scale, share, tied, torch.is_grad_enabled()
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
        share: VocabularyShare,
        tied: TiedGradient | None,
        wants_gradient: bool,
    ) -> Tensor:
        ctx.tied, ctx.dtype, group = tied, weight_VE.dtype, share.group
        weight_VE = weight_VE.float() if widened(x_NE, weight_VE) else weight_VE
        chunk = max(1, CHUNK_LOGITS // weight_VE.shape[0])
        loss = torch.zeros((), dtype=torch.float32, device=x_NE.device)
        gradients = _Gradients(x_NE, weight_VE) if wants_gradient else None
        room = torch.empty(min(chunk, x_NE.shape[0]), weight_VE.shape[0], dtype=weight_VE.dtype, device=x_NE.device)
        for start in range(0, x_NE.shape[0], chunk):
            rows = slice(start, start + chunk)
            logits_CV = _logits(x_NE[rows], weight_VE, room)
            scores, part = _chunk_loss(logits_CV, targets_N[rows] - share.first, group)
            loss += part.sum()
            if gradients is not None:
                gradients.add(rows, scores.to_gradient(scale))
        if gradients is not None:
            ctx.save_for_backward(*gradients.finish(group))
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        dx_NE, dw_VE = ctx.saved_tensors
        if upstream.is_cuda or upstream != 1:  # a pass over the whole table, which a plain `backward()` does not need
            dx_NE, dw_VE = dx_NE.mul_(upstream), dw_VE.mul_(upstream)
        if ctx.tied is not None:
            ctx.tied.dw_VE = dw_VE
        return dx_NE, dw_VE.to(ctx.dtype) if ctx.tied is None else None, None, None, None, None, None


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


def _logits(x_CE: Tensor, weight_VE: Tensor, room: Tensor) -> Tensor:
    """Logits of a chunk in float32, in `room` where that is float32."""
    return torch.mm(x_CE.to(weight_VE.dtype), weight_VE.t(), out=room[: x_CE.shape[0]]).float()


def _chunk_loss(logits_CV: Tensor, wanted_C: Tensor, group: dist.ProcessGroup | None) -> tuple[_Scores, Tensor]:
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


class _Gradients:
    """Gradients of the hidden states and of the embedding, added up chunk by chunk in float32."""

    def __init__(self, x_NE: Tensor, weight_VE: Tensor) -> None:
        self.x_NE, self.weight_VE = x_NE, weight_VE
        self.dx_NE = torch.empty_like(x_NE)
        self.dw_VE: Tensor | None = None

    def add(self, rows: slice, dlogits_CV: Tensor) -> None:
        """Take in one chunk."""
        dlogits_CV, x_CE = dlogits_CV.to(self.weight_VE.dtype), self.x_NE[rows].to(self.weight_VE.dtype)
        self.dx_NE[rows] = dlogits_CV @ self.weight_VE
        if self.dw_VE is None:
            self.dw_VE = dlogits_CV.t() @ x_CE
        elif x_CE.dtype == torch.float32:
            self.dw_VE.addmm_(dlogits_CV.t(), x_CE)
        else:
            self.dw_VE = self.dw_VE.float().add_(dlogits_CV.t() @ x_CE)

    def finish(self, group: dist.ProcessGroup | None) -> tuple[Tensor, Tensor]:
        """(dx, dw); each rank has seen its rows of the vocabulary only, so dx is summed over the ranks."""
        if self.dw_VE is None:  # a pass without a sequence still takes part in every collective
            return self.dx_NE, torch.zeros_like(self.weight_VE)
        if group is not None:
            dist.all_reduce(self.dx_NE, group=group)
        return self.dx_NE, self.dw_VE


def _gather_last(local: Tensor, group: dist.ProcessGroup) -> Tensor:
    parts = [torch.empty_like(local) for _ in range(group.size())]
    dist.all_gather(parts, local.contiguous(), group=group)
    return torch.cat(parts, dim=-1)
