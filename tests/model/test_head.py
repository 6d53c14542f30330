"""The chunked loss against the plain one."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from opt_model import head


def plain(x: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(x @ weight.t(), targets, reduction="sum")


@pytest.mark.unit
@pytest.mark.parametrize("tokens", [1, 5, 16, 17])
def test_loss_and_gradients_equal_the_plain_cross_entropy(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(head.CHUNK_LOGITS, "cpu", 5 * 40)
    torch.manual_seed(tokens)
    x, weight = torch.randn(tokens, 12, requires_grad=True), torch.randn(40, 12, requires_grad=True)
    targets = torch.randint(40, (tokens,))
    expected = plain(x, weight, targets)
    wanted = torch.autograd.grad(expected * 0.25, (x, weight))
    loss = head.token_loss(x, head.VocabularyShare(weight), targets, 0.125)
    (2 * loss).backward()
    assert torch.allclose(loss, expected, rtol=1e-6)
    for found, gradient in zip((x.grad, weight.grad), wanted, strict=True):
        assert found is not None
        assert torch.allclose(found, gradient, atol=1e-6)


@pytest.mark.unit
def test_low_precision_sums_chunks_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(head.CHUNK_LOGITS, "cpu", 4 * 40)
    torch.manual_seed(0)
    x, weight, targets = torch.randn(256, 12), torch.randn(40, 12), torch.randint(40, (256,))
    low_x, low_weight = (t.bfloat16().requires_grad_() for t in (x, weight))
    loss = head.token_loss(low_x, head.VocabularyShare(low_weight), targets)
    loss.backward()
    exact_x, exact_weight = (t.detach().float().requires_grad_() for t in (low_x, low_weight))
    expected = plain(exact_x, exact_weight, targets)
    expected.backward()
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, expected, rtol=2e-3)
    assert low_weight.grad is not None
    assert exact_weight.grad is not None
    assert (low_weight.grad.float() - exact_weight.grad).norm() < 0.01 * exact_weight.grad.norm()


@pytest.mark.unit
def test_no_gradient_is_made_where_none_is_wanted() -> None:
    x, weight = torch.randn(3, 4, requires_grad=True), torch.randn(8, 4, requires_grad=True)
    with torch.no_grad():
        assert not head.token_loss(x, head.VocabularyShare(weight), torch.tensor([0, 1, 7])).requires_grad


@pytest.mark.unit
def test_a_pass_without_tokens_gives_zero_gradients() -> None:
    x, weight = torch.randn(0, 4, requires_grad=True), torch.randn(8, 4, requires_grad=True)
    loss = head.token_loss(x, head.VocabularyShare(weight), torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert weight.grad is not None
    assert weight.grad.eq(0).all()
