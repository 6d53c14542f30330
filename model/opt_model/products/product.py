"""A product of two matrices by whatever makes it soonest: tiles for large ones in float32, torch for all others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from opt_model import native
from opt_model.products.library import LEVEL, load, multiply

TILES = LEVEL in native.levels()
"""Whether this processor has them."""
FEWEST, LEAST = 128, 1 << 26
"""The least of the three sizes, and of multiplications, that are worth the packing: with less, torch is as fast."""


def by_tiles(a: Tensor, b: Tensor, rows: int, inner: int, columns: int) -> bool:
    """Whether tiles make the product of [rows, inner] and [inner, columns] in these tensors' number formats."""
    if not TILES or any(x.dtype != torch.float32 or x.device.type != "cpu" for x in (a, b)):
        return False
    return rows * inner * columns >= LEAST and min(rows, inner, columns) >= FEWEST


def mm(
    a_MK: Tensor, b_KN: Tensor, bias_N: Tensor | None = None, *, out: Tensor | None = None, add: bool = False
) -> Tensor:
    """`a_MK b_KN`, [M, N].

    Args:
        a_MK: Left factor.
        b_KN: Right factor.
        bias_N: Added to every row.
        out: Takes the result, and is returned.
        add: Add to what `out` holds.
    """
    library = load() if by_tiles(a_MK, b_KN, a_MK.shape[0], *b_KN.shape) else None
    if library is None:
        return _by_torch(a_MK, b_KN, bias_N, out, add=add)
    c_MN = a_MK.new_empty(a_MK.shape[0], b_KN.shape[1]) if out is None else out
    a_MK, b_KN = (x if 1 in x.stride() else x.contiguous() for x in (a_MK, b_KN))
    multiply(library, a_MK, b_KN, c_MN, bias_N, torch.get_num_threads(), add=add)
    return c_MN


def _by_torch(a_MK: Tensor, b_KN: Tensor, bias_N: Tensor | None, out: Tensor | None, *, add: bool) -> Tensor:
    if out is not None and add:
        return out.addmm_(a_MK, b_KN)
    if bias_N is not None:
        return torch.addmm(bias_N, a_MK, b_KN, out=out)
    return torch.mm(a_MK, b_KN, out=out)


def linear(x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """`x W^T + b`, [N, O], for autograd, and for torch's compiler, which leaves its products whole."""
    y_NO: Tensor = torch.ops.opt_model.linear(x_NI, weight_OI, bias_O)
    return y_NO


torch.library.define("opt_model::mm", "(Tensor a, Tensor b) -> Tensor")
torch.library.define("opt_model::linear", "(Tensor x, Tensor weight, Tensor? bias) -> Tensor")


@torch.library.impl("opt_model::mm", "cpu")
def _mm(a_MK: Tensor, b_KN: Tensor) -> Tensor:
    return mm(a_MK, b_KN)


@torch.library.impl("opt_model::linear", "cpu")
def _linear(x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    return mm(x_NI, weight_OI.t(), bias_O)


@torch.library.register_fake("opt_model::mm")  # type: ignore[untyped-decorator]
def _shape_of_mm(a_MK: Tensor, b_KN: Tensor) -> Tensor:
    return a_MK.new_empty(a_MK.shape[0], b_KN.shape[1])


@torch.library.register_fake("opt_model::linear")  # type: ignore[untyped-decorator]
def _shape_of_linear(x_NI: Tensor, weight_OI: Tensor, _: Tensor | None) -> Tensor:
    return x_NI.new_empty(x_NI.shape[0], weight_OI.shape[0])


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    del output
    ctx.save_for_backward(*inputs[:2])
    ctx.biased = inputs[2] is not None


def _backward(ctx: Any, g_NO: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    x_NI, weight_OI = ctx.saved_tensors
    multiply_by = torch.ops.opt_model.mm
    return multiply_by(g_NO, weight_OI), multiply_by(g_NO.t(), x_NI), g_NO.sum(0) if ctx.biased else None


torch.library.register_autograd("opt_model::linear", _backward, setup_context=_keep)
