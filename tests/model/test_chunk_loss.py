"""Every way to compute a chunk's loss gives the plain cross entropy and its gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from opt_model.chunk_loss import ChunkLoss, _fused, divided, whole

pytestmark = pytest.mark.unit
SCALE = 0.125


def uncompiled(logits: Tensor, targets: Tensor, scale: float | None) -> tuple[Tensor, Tensor | None]:
    assert scale is not None
    return _fused(logits, targets, torch.tensor(scale))


WAYS = {"divided": divided(None), "whole": whole, "fused": uncompiled}


@pytest.mark.parametrize(("dtype", "apart"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-3)])
@pytest.mark.parametrize("way", list(WAYS))
def test_loss_and_gradient_are_the_plain_ones(way: str, dtype: torch.dtype, apart: float) -> None:
    torch.manual_seed(0)
    logits, targets = (5 * torch.randn(7, 40)).to(dtype), torch.randint(40, (7,))
    plain = logits.float().clone().requires_grad_()
    expected = cross_entropy(plain, targets, reduction="sum")
    expected.backward()  # type: ignore[no-untyped-call]
    loss, gradient = WAYS[way](logits.clone(), targets, SCALE)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert gradient is not None
    assert plain.grad is not None
    assert torch.allclose(gradient.float(), plain.grad * SCALE, atol=apart)


@pytest.mark.parametrize("way", [divided(None), whole])
def test_logits_far_apart_give_finite_losses(way: ChunkLoss) -> None:
    logits = torch.tensor([[300.0, 0.0, -300.0]])
    loss, gradient = way(logits, torch.tensor([2]), None)
    assert loss.item() == pytest.approx(600.0)
    assert gradient is None
