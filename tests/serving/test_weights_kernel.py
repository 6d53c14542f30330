"""Weights put into the formats of products by the compiled loops: torch's bits, at every level this processor has."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from opt_model import native
from opt_serving.compute.matrices import quantise, quantised
from opt_serving.kernels import library

pytestmark = pytest.mark.unit
LEVELS = native.levels()
FORMATS = [torch.float32, torch.bfloat16, torch.float16]


def stored(dtype: torch.dtype, width: int = 83) -> Tensor:
    """Rows as a file may have them: of zeros, of one size, of ties, of very small and very large numbers."""
    torch.manual_seed(width)
    drawn = torch.randn(40, width)
    drawn[3] = 0
    drawn[5] = 0.25
    drawn[7] = torch.arange(width) - width // 2 + 0.5
    drawn[9] *= 1e-30
    drawn[11] *= 1e4
    return drawn.to(dtype)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", FORMATS)
def test_int8_is_what_torch_makes_of_them(level: str, dtype: torch.dtype) -> None:
    for weight in (stored(dtype), stored(dtype, 96)[:, 11:50], stored(dtype)[3:4], stored(dtype)[:0]):
        wanted = quantised(weight, by=quantise)
        found = quantised(weight, by=lambda w, into: library.quantise(w, into, level=level))
        for mine, theirs in ((found.weight, wanted.weight), (found.scale, wanted.scale), (found.shift, wanted.shift)):
            assert mine is not None
            assert theirs is not None
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("to", [torch.float32, torch.bfloat16])
def test_floating_formats_are_what_torch_makes_of_them(level: str, dtype: torch.dtype, to: torch.dtype) -> None:
    whole = stored(dtype)
    whole[0, :3] = torch.tensor([float("inf"), -float("inf"), float("nan")])
    for weight in (whole, stored(dtype, 96)[:, 11:50], whole[:0]):
        found = torch.empty(weight.shape, dtype=to)
        library.convert(weight, found, level=level)
        assert torch.equal(found.nan_to_num(7.0), torch.empty_like(found).copy_(weight).nan_to_num(7.0))


@pytest.mark.parametrize("level", LEVELS)
def test_a_number_that_is_none_stays_to_be_seen(level: str) -> None:
    weight = stored(torch.float32)
    weight[2, 4], weight[3, 82], weight[4, 0] = float("nan"), float("inf"), -float("inf")
    scale = quantised(weight, by=lambda w, into: library.quantise(w, into, level=level)).scale
    assert scale is not None
    assert (~scale.isfinite()).nonzero().flatten().tolist() == [2, 3, 4]
