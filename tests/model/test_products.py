"""Products in float32 by matrix tiles: no less exact than torch's own, and the same bits whatever the threads.

Where the processor has no tiles, the same holds of what stands in for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from opt_model.linear import Linear
from opt_model.products import product
from opt_model.products.product import FEWEST, LEAST, TILES, by_tiles, mm

SHAPES = [(1, 5, 7), (33, 100, 77), (64, 1600, 96), (300, 64, 500), (256, 768, 160)]
"""Rows, numbers that are summed, columns: less than a tile, not whole tiles, several depths, several groups."""


@pytest.fixture
def however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "FEWEST", 1)
    monkeypatch.setattr(product, "LEAST", 1)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def laid_out(x: Tensor, turned: bool) -> Tensor:
    """The same numbers, rows or columns contiguous."""
    return x.t().contiguous().t() if turned else x


def error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).pow(2).mean().sqrt())


def bound(torchs: Tensor, exact: Tensor, roundings: int = 1) -> float:
    """Torch's own error and a tenth; what so many roundings make where there are too few numbers to tell."""
    return max(1.1 * error(torchs, exact), roundings * 2**-23 * float(exact.pow(2).mean().sqrt()))


def wild(*shape: int) -> Tensor:
    return torch.randn(shape) * torch.exp(3 * torch.randn(shape))


@pytest.mark.unit
@pytest.mark.usefixtures("however_small")
@pytest.mark.parametrize("made", [torch.randn, torch.rand, wild], ids=["normal", "even", "wild"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_no_less_exact_than_torchs(shape: tuple[int, int, int], made: Callable[..., Tensor]) -> None:
    torch.manual_seed(2)
    rows, inner, columns = shape
    a_MK, b_KN, bias_N = made(rows, inner), made(inner, columns), made(columns)
    exact = a_MK.double() @ b_KN.double()
    for turned_a in (False, True):
        for turned_b in (False, True):
            factors = laid_out(a_MK, turned_a), laid_out(b_KN, turned_b)
            found = mm(*factors)
            assert error(found, exact) <= bound(a_MK @ b_KN, exact)
            assert error(mm(*factors, bias_N), exact + bias_N) <= bound(a_MK @ b_KN + bias_N, exact + bias_N, 2)
            assert not TILES or torch.equal(found, mm(a_MK, b_KN)), "the order of sums does not depend on how they lie"


@pytest.mark.unit
@pytest.mark.usefixtures("however_small", "threads")
def test_the_bits_do_not_depend_on_threads() -> None:
    """Of tiles; torch's own products promise numbers that are near."""
    same = torch.equal if TILES else partial(torch.allclose, rtol=1e-4, atol=1e-4)
    torch.manual_seed(3)
    a_MK, b_KN = torch.randn(300, 900), torch.randn(900, 500)
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append(mm(a_MK, b_KN))
    assert same(found[0], found[1])
    assert same(found[0], found[2])
    assert same(found[0][40:170], mm(a_MK[40:170], b_KN)), "a row does not depend on its neighbours"


@pytest.mark.unit
@pytest.mark.usefixtures("however_small")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_writes_or_adds_to_a_matrix_and_nothing_beside_it(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(4)
    rows, inner, columns = shape
    a_MK, b_KN = torch.randn(rows, inner), torch.randn(inner, columns)
    whole = torch.full((rows + 2, columns + 4), 7.0)
    into = whole[1:-1, 2:-2]
    assert mm(a_MK, b_KN, out=into) is into
    assert torch.allclose(into, mm(a_MK, b_KN), rtol=1e-6, atol=1e-6)
    mm(a_MK, b_KN, out=into, add=True)
    assert torch.allclose(into, 2 * mm(a_MK, b_KN), rtol=1e-5, atol=1e-4)
    into.fill_(7.0)
    assert bool((whole == 7.0).all())


@pytest.mark.unit
@pytest.mark.usefixtures("however_small")
def test_what_is_not_finite_is_seen_in_its_row_only() -> None:
    a_MK, b_KN = torch.ones(64, 64), torch.ones(64, 64)
    a_MK[3, 5], a_MK[40, 2] = float("inf"), float("nan")
    finite = mm(a_MK, b_KN).isfinite().all(1)
    assert (~finite).nonzero().flatten().tolist() == [3, 40]


@pytest.mark.unit
@pytest.mark.usefixtures("however_small")
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_very_small_and_very_large_numbers_keep_their_bits(size: float) -> None:
    torch.manual_seed(5)
    a_MK, b_KN = torch.randn(40, 64) * size, torch.randn(64, 40)
    exact = a_MK.double() @ b_KN.double()
    assert error(mm(a_MK, b_KN), exact) <= bound(a_MK @ b_KN, exact)


@pytest.mark.unit
def test_small_products_and_other_formats_are_torchs() -> None:
    x = torch.randn(FEWEST, LEAST // FEWEST // FEWEST)
    weight = torch.randn(FEWEST, x.shape[1])
    rows, inner = x.shape
    assert by_tiles(x, weight, rows, inner, FEWEST) == TILES
    assert not by_tiles(x, weight, rows, inner - 1, FEWEST)
    assert not by_tiles(x, weight, rows - 1, 2 * inner, FEWEST)
    assert not by_tiles(x.bfloat16(), weight, rows, inner, FEWEST)
    assert torch.equal(mm(x[:8], weight.t()), x[:8] @ weight.t())


@pytest.mark.unit
@pytest.mark.usefixtures("however_small")
def test_without_a_compiler_torch_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "load", lambda: None)
    a_MK, b_KN, bias_N = torch.randn(64, 64), torch.randn(64, 64), torch.randn(64)
    assert torch.equal(mm(a_MK, b_KN), a_MK @ b_KN)
    assert torch.equal(mm(a_MK, b_KN, bias_N), torch.addmm(bias_N, a_MK, b_KN))
    assert torch.equal(mm(a_MK, b_KN, out=torch.ones(64, 64), add=True), torch.ones(64, 64).addmm_(a_MK, b_KN))


def layers(inner: int, columns: int) -> tuple[Linear, torch.nn.Linear, torch.nn.Linear]:
    """Ours, torch's, and an exact one, of the same weights."""
    torch.manual_seed(6)
    ours, torchs = Linear(inner, columns), torch.nn.Linear(inner, columns)
    exact = torch.nn.Linear(inner, columns, dtype=torch.float64)
    for other in (torchs, exact):
        other.load_state_dict(ours.state_dict())
    return ours, torchs, exact


def passed(layer: torch.nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor]:
    """The output, and the gradients of input, weight and bias."""
    given = x.clone().requires_grad_()
    y = layer(given)
    y.backward(upstream)
    assert given.grad is not None
    return [y.detach(), given.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]


@pytest.mark.unit
def test_a_layer_is_no_less_exact_in_both_directions() -> None:
    x, upstream = torch.randn(2, 128, 512), torch.randn(2, 128, 640)
    ours, torchs, exact = layers(512, 640)
    expected = passed(exact, x.double(), upstream.double())
    for found, torch_found, wanted in zip(
        passed(ours, x, upstream), passed(torchs, x, upstream), expected, strict=True
    ):
        assert found.is_contiguous()
        assert error(found, wanted) <= bound(torch_found, wanted)


@pytest.mark.integration
@pytest.mark.filterwarnings("default")  # torch's compiler warns of its own code
def test_a_compiled_layer_computes_the_same_bits() -> None:
    x, upstream = torch.randn(2, 128, 512), torch.randn(2, 128, 640)
    ours, _, _ = layers(512, 640)
    plain = passed(ours, x, upstream)
    ours.zero_grad()
    compiled = passed(torch.compile(ours, fullgraph=True), x, upstream)
    for found, wanted in zip(compiled[:3], plain[:3], strict=True):
        assert torch.equal(found, wanted) if TILES else torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert torch.allclose(compiled[3], plain[3], rtol=1e-5, atol=1e-5)
