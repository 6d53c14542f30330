# ruff: noqa: N815 - names carry their shape
"""The tied head: logits, and the loss over the vocabulary without ever holding all logits.

The logits of N tokens take N x 50272 numbers, more than every block's activations together. The loss walks over the
tokens in chunks and computes the gradient on the way, so that only one chunk is ever held and
nothing is computed twice (the scheme of Liger Kernel, arXiv 2410.10989, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from opt_model.chunk_loss import ChunkLoss, divided, whole
from opt_model.embedding import TiedGradient
from opt_model.linear import widened
from opt_model.products.product import mm

CHUNK_LOGITS = {"cpu": 512 * 50272, "cuda": 4096 * 50272}
"""Logits held at a time, by device: what stays near a processor's caches, and what fills a CUDA device (record 112)."""


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
    fused: ChunkLoss | None = None,
) -> Tensor:
    """Cross entropy in nats, summed over tokens, float32.

    Args:
        x_NE: What the head reads.
        share: Rows of the embedding that are here.
        targets: The token ids wanted, N of them in any shape.
        gradient_scale: Factor on the gradients.
        tied: Takes the embedding's gradient, for the look-up to add its own; None to give it to autograd.
        fused: Computes the chunks where all rows are here; None for what fits the device.
    """
    wanted = gradient_scale if torch.is_grad_enabled() else None
    loss: Tensor = _TokenLoss.apply(
        x_NE,
        share.weight_VE,
        targets.flatten() - share.first,
        wanted,
        share.group,
        tied,
        _chunks_of(x_NE, share, fused),
    )  # type: ignore[no-untyped-call]
    return loss


def _chunks_of(x_NE: Tensor, share: VocabularyShare, fused: ChunkLoss | None) -> ChunkLoss:
    if share.group is not None:
        return divided(share.group)
    return fused or (whole if x_NE.is_cuda else divided(None))


class _TokenLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_NE: Tensor,
        weight_VE: Tensor,
        targets_N: Tensor,
        scale: float | None,
        group: dist.ProcessGroup | None,
        tied: TiedGradient | None,
        chunk_loss: ChunkLoss,
    ) -> Tensor:
        ctx.tied, ctx.dtype = tied, weight_VE.dtype
        weight_VE = weight_VE.float() if widened(x_NE, weight_VE) else weight_VE
        chunk = max(1, CHUNK_LOGITS["cuda" if x_NE.is_cuda else "cpu"] // weight_VE.shape[0])
        loss = torch.zeros((), dtype=torch.float32, device=x_NE.device)
        gradients = None if scale is None else _Gradients(x_NE, weight_VE)
        room = torch.empty(min(chunk, x_NE.shape[0]), weight_VE.shape[0], dtype=weight_VE.dtype, device=x_NE.device)
        for start in range(0, x_NE.shape[0], chunk):
            rows = slice(start, start + chunk)
            x_CE = x_NE[rows].to(weight_VE.dtype)
            logits_CV = mm(x_CE, weight_VE.t(), out=room[: x_CE.shape[0]])
            part, dlogits_CV = chunk_loss(logits_CV, targets_N[rows], scale)
            loss += part
            if gradients is not None and dlogits_CV is not None:
                gradients.add(rows, dlogits_CV)
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


class _Gradients:
    """Gradients of the hidden states and of the embedding, added up chunk by chunk in float32."""

    def __init__(self, x_NE: Tensor, weight_VE: Tensor) -> None:
        self.x_NE, self.weight_VE = x_NE, weight_VE
        self.dx_NE = torch.empty_like(x_NE)
        self.dw_VE: Tensor | None = None

    def add(self, rows: slice, dlogits_CV: Tensor) -> None:
        """Take in one chunk."""
        dlogits_CV, x_CE = dlogits_CV.to(self.weight_VE.dtype), self.x_NE[rows].to(self.weight_VE.dtype)
        self.dx_NE[rows] = mm(dlogits_CV, self.weight_VE)
        if self.dw_VE is None:
            self.dw_VE = mm(dlogits_CV.t(), x_CE)
        elif x_CE.dtype == torch.float32:
            mm(dlogits_CV.t(), x_CE, out=self.dw_VE, add=True)
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
