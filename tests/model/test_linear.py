"""Products of bfloat16 in float32: as exact as a bfloat16 unit with float32 sums, forward and backward."""

from __future__ import annotations

import pytest
import torch

from opt_model import linear
from opt_model.linear import Linear, widened

pytestmark = pytest.mark.unit


def layers(weights: torch.dtype) -> tuple[Linear, torch.nn.Linear, torch.Tensor]:
    """The layer, the same in float64, and an input that bfloat16 holds exactly."""
    torch.manual_seed(1)
    ours, exact = Linear(48, 80), torch.nn.Linear(48, 80, dtype=torch.float64)
    ours = ours.to(weights)
    exact.load_state_dict({name: tensor.double() for name, tensor in ours.state_dict().items()})
    return ours, exact, torch.randn(3, 7, 48).bfloat16()


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_a_widened_product_is_rounded_once(monkeypatch: pytest.MonkeyPatch, weights: torch.dtype) -> None:
    monkeypatch.setattr(linear, "widens", lambda: True)
    ours, exact, x = layers(weights)
    inputs = x.clone().requires_grad_(), x.double().requires_grad_()
    found, expected = ours(inputs[0]), exact(inputs[1])
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected.float().bfloat16()) or apart(found, expected) < 2**-8
    upstream = torch.randn(3, 7, 80).bfloat16()
    found.backward(upstream)
    expected.backward(upstream.double())
    assert ours.weight.grad is not None
    assert ours.weight.grad.dtype == weights
    bound = 1e-6 if weights == torch.float32 else 2**-8
    for mine, theirs, limit in (
        (ours.weight.grad, exact.weight.grad, bound),
        (ours.bias.grad, exact.bias.grad, bound),
        (inputs[0].grad, inputs[1].grad, 2**-8),
    ):
        assert mine is not None
        assert theirs is not None
        assert apart(mine, theirs) < limit


def apart(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Largest difference, as a share of the largest number."""
    return float((found.double() - exact).abs().max() / exact.abs().max())


def test_servers_and_other_formats_take_the_plain_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "widens", lambda: True)
    x, low, full = torch.ones(2, 4), torch.ones(3, 4).bfloat16(), torch.ones(3, 4)
    assert not widened(x, full)
    assert widened(x.bfloat16(), low)
    with torch.no_grad():
        assert not widened(x.bfloat16(), low), "a server's short weights stay short"
        assert widened(x.bfloat16(), full)
    monkeypatch.setattr(linear, "widens", lambda: False)
    assert not widened(x.bfloat16(), low)


@pytest.mark.parametrize(
    ("processor", "slower"),
    [
        ({"cpu_name": "AMD EPYC"}, True),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True}, False),
        ({"cpu_name": "Intel(R) Xeon(R)", "avx512_bf16": True}, True),
        ({"cpu_name": "Intel(R) Xeon(R)", "avx512_bf16": True, "amx_bf16": True}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_processors_without_fast_bfloat16_are_told_apart(processor: dict[str, object], slower: bool) -> None:
    assert linear.slower_at_bfloat16({"architecture": "x86_64"} | processor) == slower
