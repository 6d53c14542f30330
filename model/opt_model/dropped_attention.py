"""Causal attention with dropout on a processor, for which torch has no kernel of its own.

torch computes it with plain operations, all in float32, and keeps three matrices of S x S for the backward pass.
Here scores and their softmax are in float32 and every other product in the format of the inputs where the processor has
units for it, as in the fused kernels without dropout; two matrices are kept, in the format of the inputs on every
processor, so that `opt_api.estimate.memory` can count them. Shapes: see `attention`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from opt_model.dropout import factors
from opt_model.linear import widened


def dropped_attention(q_BHSK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, share: float) -> Tensor:
    """Attend within each sequence with `share` of the probabilities dropped. Returns [B, H, S, K]."""
    compute = _compute_format(q_BHSK, k_BHSK)
    y_BHSK: Tensor = _DroppedAttention.apply(q_BHSK, k_BHSK, v_BHSK, share, compute)  # type: ignore[no-untyped-call]
    return y_BHSK


class _DroppedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_BHSK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, share: float, compute: torch.dtype) -> Tensor:
        positions, head_size = q_BHSK.shape[-2:]
        scores_BHSS = torch.matmul(q_BHSK.float(), k_BHSK.float().transpose(-2, -1)).mul_(head_size**-0.5)
        scores_BHSS += torch.full((positions, positions), float("-inf")).triu_(1)
        dtype, ctx.compute = q_BHSK.dtype, compute
        chances_BHSS = torch.softmax(scores_BHSS, -1).to(dtype)
        factors_BHSS = factors(chances_BHSS.shape, share, dtype)
        ctx.save_for_backward(q_BHSK, k_BHSK, v_BHSK, chances_BHSS, factors_BHSS)
        return torch.matmul((chances_BHSS * factors_BHSS).to(compute), v_BHSK.to(compute)).to(dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        dtype, compute = upstream.dtype, ctx.compute
        dy_BHSK, q_BHSK, k_BHSK, v_BHSK, chances_BHSS, factors_BHSS = (
            tensor.to(compute) for tensor in (upstream, *ctx.saved_tensors)
        )
        dv_BHSK = torch.matmul((chances_BHSS * factors_BHSS).transpose(-2, -1), dy_BHSK)
        dchances_BHSS = torch.matmul(dy_BHSK, v_BHSK.transpose(-2, -1)).mul_(factors_BHSS)
        dscores_BHSS = torch._softmax_backward_data(dchances_BHSS, chances_BHSS, -1, compute)
        dscores_BHSS = dscores_BHSS.mul_(q_BHSK.shape[-1] ** -0.5)
        dq_BHSK = torch.matmul(dscores_BHSS, k_BHSK)
        dk_BHSK = torch.matmul(dscores_BHSS.transpose(-2, -1), q_BHSK)
        return dq_BHSK.to(dtype), dk_BHSK.to(dtype), dv_BHSK.to(dtype), None, None


def _compute_format(q_BHSK: Tensor, k_BHSK: Tensor) -> torch.dtype:
    """bfloat16 where there are units for it, float32 elsewhere."""
    return torch.bfloat16 if q_BHSK.dtype == torch.bfloat16 and not widened(q_BHSK, k_BHSK) else torch.float32
