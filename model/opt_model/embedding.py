# ruff: noqa: N815 - names carry their shape
"""Tables that are looked up, and the look-up of tokens, whose gradient is added where the tied head has put its own.

A plain look-up makes a second gradient of the size of the whole table, nearly all zeros, and adds it to the head's:
three passes over 50272 rows for the few rows that a pass touches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding


class Table(nn.Embedding):
    """`nn.Embedding` that leaves values alone which are not there: on the meta device torch would load its compiler.

    That takes a second and 70 MB.
    """

    def reset_parameters(self) -> None:
        """See `nn.Embedding`."""
        if not self.weight.is_meta:
            super().reset_parameters()


@dataclass
class TiedGradient:
    """Where the head leaves the table's gradient of one pass; the look-up, last in the backward pass, takes it."""

    dw_VE: Tensor | None = None


def look_up(tokens: Tensor, weight_VE: Tensor, tied: TiedGradient) -> Tensor:
    """Rows of the table, [..., E]; the backward pass of the head with the same `tied` must come before this one's."""
    rows: Tensor = _LookUp.apply(tokens, weight_VE, tied)  # type: ignore[no-untyped-call]
    return rows


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight_VE: Tensor, tied: TiedGradient) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.tied, ctx.size, ctx.dtype = tied, weight_VE.shape, weight_VE.dtype
        return embedding(tokens, weight_VE)

    @staticmethod
    def backward(ctx: Any, dx: Tensor) -> tuple[Tensor | None, ...]:
        (tokens,) = ctx.saved_tensors
        dw_VE, ctx.tied.dw_VE = ctx.tied.dw_VE, None
        assert dw_VE is not None, "the head's backward pass comes first"
        dw_VE.index_add_(0, tokens.flatten(), dx.flatten(0, -2).to(dw_VE.dtype))
        return None, dw_VE.to(ctx.dtype), None
