"""What is dropped: as much as was asked for, independent of its neighbours, the same for the same seed."""

from __future__ import annotations

import pytest
import torch

from opt_model.dropout import dropout, factors

pytestmark = pytest.mark.unit
SHARES = [0.0, 0.1, 0.5, 0.9]
COUNT = 1_000_000


@pytest.mark.parametrize("share", SHARES)
def test_the_share_is_dropped_and_the_mean_stays(share: float) -> None:
    torch.manual_seed(1)
    found = factors((COUNT,), share, torch.float32)
    kept = found[found != 0]
    spread = (share * (1 - share) / COUNT) ** 0.5
    assert abs(1 - len(kept) / COUNT - share) <= 5 * spread + 2**-16
    assert torch.all(kept == kept[0])
    assert float(kept[0]) == pytest.approx(1 / (1 - share), rel=1e-3)
    assert float(found.mean()) == pytest.approx(1, abs=5 * spread / (1 - share) + 1e-6)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8])
def test_neighbours_are_dropped_independently(lag: int) -> None:
    """Four elements come from one number of the generator; each pair a fixed way apart must be as good as any."""
    torch.manual_seed(2)
    gone = factors((COUNT,), 0.1, torch.float32).eq(0).double()
    for lane in range(4):
        first, second = gone[:-lag][lane::4], gone[lag:][lane::4]
        assert abs(float((first * second).mean()) - 0.01) <= 5 * (0.01 * 0.99 / len(first)) ** 0.5


def test_shapes_and_formats_are_those_asked_for() -> None:
    for shape in ((), (1,), (3,), (2, 3, 5), (0, 4)):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            found = factors(shape, 0.5, dtype)
            assert (found.shape, found.dtype) == (torch.Size(shape), dtype)


def test_the_same_seed_drops_the_same_and_the_generator_moves_on() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = (factors((64,), 0.5, torch.float32) for _ in range(2))
    torch.set_rng_state(state)
    assert torch.equal(factors((64,), 0.5, torch.float32), first)
    assert torch.equal(factors((64,), 0.5, torch.float32), second)
    assert not torch.equal(first, second)


def test_the_gradient_is_dropped_where_the_value_is() -> None:
    torch.manual_seed(4)
    x = torch.ones(1000, requires_grad=True)
    y = dropout(x, 0.3)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())
    assert 0 < int(y.eq(0).sum()) < 1000
