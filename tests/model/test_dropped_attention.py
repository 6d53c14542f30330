"""Attention with dropout: the same as its definition with the same numbers, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from opt_model import dropped_attention as module
from opt_model import linear
from opt_model.dropout import factors
from opt_model.dropped_attention import dropped_attention

pytestmark = pytest.mark.unit
SIZE = (2, 3, 17, 8)
SHARE = 0.3
FORMATS = [torch.float32, torch.bfloat16, torch.float16]


def tensors(dtype: torch.dtype) -> list[torch.Tensor]:
    """Queries, keys, values, and the gradient from above."""
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(SIZE, generator=generator).to(dtype) for _ in range(4)]


def defined(inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Result and gradients by the definition, float64."""
    q, k, v = (x.double().requires_grad_() for x in inputs[:3])
    scores = q @ k.transpose(-2, -1) / SIZE[-1] ** 0.5
    later = torch.ones(SIZE[2], SIZE[2], dtype=torch.bool).triu(1)
    chances = scores.masked_fill(later, float("-inf")).softmax(-1)
    torch.manual_seed(6)
    y = (chances * factors(chances.shape, SHARE, torch.float64)) @ v
    y.backward(inputs[3].double())
    return [y.detach(), *(x.grad for x in (q, k, v) if x.grad is not None)]


@pytest.mark.parametrize("units", [False, True], ids=["widened", "with units"])
@pytest.mark.parametrize("dtype", FORMATS)
def test_it_is_its_definition(dtype: torch.dtype, units: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "widens", lambda: not units)
    inputs = tensors(dtype)
    q, k, v = (x.clone().requires_grad_() for x in inputs[:3])
    torch.manual_seed(6)
    y = dropped_attention(q, k, v, SHARE)
    y.backward(inputs[3])
    precision = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
    for found, exact in zip([y.detach(), q.grad, k.grad, v.grad], defined(inputs), strict=True):
        assert found is not None
        assert found.dtype == dtype
        assert (found.double() - exact).norm() <= precision * exact.norm()


def test_a_position_depends_on_none_after_it() -> None:
    q, k, v, _ = tensors(torch.float32)
    torch.manual_seed(7)
    whole = dropped_attention(q, k, v, SHARE)
    for tensor in (k, v):
        tensor[:, :, 9:] += 1
    torch.manual_seed(7)
    assert torch.equal(dropped_attention(q, k, v, SHARE)[:, :, :9], whole[:, :, :9])


def test_nothing_dropped_is_torchs_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "factors", lambda shape, _share, dtype: torch.ones(shape, dtype=dtype))
    q, k, v, _ = tensors(torch.float32)
    assert torch.allclose(
        dropped_attention(q, k, v, SHARE), scaled_dot_product_attention(q, k, v, is_causal=True), atol=1e-6
    )
