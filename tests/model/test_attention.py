"""Attention in bfloat16, made in float32: as exact as one rounding allows, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from opt_model import linear
from opt_model.attention import SelfAttention
from support.shapes import TINY

pytestmark = pytest.mark.unit
SIZE = (2, 4, 33, 8)


def attended(monkeypatch: pytest.MonkeyPatch, widens: bool) -> list[torch.Tensor]:
    """The result and the three gradients."""
    monkeypatch.setattr(linear, "widens", lambda: widens)
    layer = SelfAttention(TINY.model_copy(update={"attention_dropout": 0.0}), 0)
    inputs = tensors()
    y = layer._attend(*inputs)
    y.backward(upstream())
    return [y.detach(), *(x.grad for x in inputs if x.grad is not None)]


def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    made = [torch.randn(SIZE, generator=generator).bfloat16().requires_grad_() for _ in range(3)]
    return made[0], made[1], made[2]


def upstream() -> torch.Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(4)).bfloat16()


def test_widened_attention_equals_the_exact_one_but_for_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (x.detach().double().requires_grad_() for x in tensors())
    y = scaled_dot_product_attention(q, k, v, is_causal=True)
    y.backward(upstream().double())
    wide, short = attended(monkeypatch, True), attended(monkeypatch, False)
    for found, plain, exact in zip(wide, short, (y.detach(), q.grad, k.grad, v.grad), strict=True):
        assert exact is not None
        assert found.dtype == torch.bfloat16
        apart, allowed = ((x.double() - exact).abs().max() for x in (found, plain))
        assert apart <= max(allowed, exact.abs().max() * 2**-8)


def test_a_server_attends_as_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "widens", lambda: True)
    layer, (q, k, v) = SelfAttention(TINY, 0).eval(), tensors()
    with torch.no_grad():
        assert torch.equal(layer._attend(q, k, v), scaled_dot_product_attention(q, k, v, is_causal=True))
