"""Linear layers, by what the processor multiplies soonest with.

Where it is slower at bfloat16 than at float32, bfloat16 inputs are widened, multiplied in float32 and rounded once at
the end, which is also what a bfloat16 unit computes (decision record 113). Where it has matrix tiles, these make
float32 products (decision record 202).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from opt_model.products import product


def slower_at_bfloat16(able: Mapping[str, Any]) -> bool:
    """Whether an x86 processor has no bfloat16 products (AVX512-BF16, AMX), or is Intel's without matrix tiles (AMX).

    Args:
        able: What `torch.cpu.get_capabilities` says.
    """
    if able.get("architecture") != "x86_64" or able.get("amx_bf16", False):
        return False
    return "intel" in str(able.get("cpu_name", "")).lower() or not able.get("avx512_bf16", False)


_WIDENS = slower_at_bfloat16(torch.cpu.get_capabilities())


def widens() -> bool:
    """Whether this processor's bfloat16 products are better made in float32."""
    return _WIDENS


def widened(x: Tensor, weight: Tensor) -> bool:
    """Whether the product of these two is made in float32; float32 weights under bfloat16 activations always."""
    if x.dtype != torch.bfloat16 or x.is_cuda:
        return False
    return weight.dtype == torch.float32 or (torch.is_grad_enabled() and widens())


def tiled(x: Tensor, weight: Tensor) -> bool:
    """Whether matrix tiles make the product of these two; never of a weight that is distributed over ranks."""
    columns, inner = weight.shape
    return not hasattr(weight, "to_local") and product.by_tiles(x, weight, x.numel() // inner, inner, columns)


class Linear(nn.Linear):
    """`nn.Linear` that takes bfloat16 activations under float32 weights, too; the result has the input's format."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        y: Tensor
        if widened(x, self.weight):
            y = _Widened.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        elif tiled(x, self.weight):
            y = product.linear(x.flatten(0, -2), self.weight, self.bias).view(*x.shape[:-1], -1)
        else:
            y = linear(x, self.weight, self.bias)
        return y


class _Widened(torch.autograd.Function):
    """Keeps the short tensors for the backward pass, and widens them again there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        wide = linear(x.float(), weight.float(), None if bias is None else bias.float())
        return wide.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        g_NO, x_NI = upstream.flatten(0, -2).float(), x.flatten(0, -2).float()
        dx = (g_NO @ weight.float()).to(x.dtype).view(x.shape)
        dw_OI = (g_NO.t() @ x_NI).to(weight.dtype)
        return dx, dw_OI, g_NO.sum(0).to(weight.dtype) if ctx.biased else None
