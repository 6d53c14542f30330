"""Weights put into the formats of products: compiled loops at every level, and numpy, give what torch gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from opt_model import native
from opt_model.exchange.stored import BFLOAT16
from opt_model.exchange.tensors import tensor_of
from opt_serving.compute.matrices import quantise, quantised
from opt_serving.kernels import library
from opt_serving.kernels.library import Matrix

pytestmark = pytest.mark.unit
LEVELS = native.levels()
FLOAT32 = np.dtype(np.float32)
FORMATS = [FLOAT32, BFLOAT16, np.dtype(np.float16)]


def stored(dtype: np.dtype, width: int = 83) -> NDArray:
    """Rows as a file may have them: of zeros, of one size, of ties, of very small and very large numbers."""
    torch.manual_seed(width)
    drawn = torch.randn(40, width).numpy()
    drawn[3] = 0
    drawn[5] = 0.25
    drawn[7] = np.arange(width) - width // 2 + 0.5
    drawn[9] *= 1e-30
    drawn[11] *= 1e4
    return drawn.astype(dtype)


def by_torch(weight: NDArray) -> tuple[Tensor, Tensor, Tensor]:
    """int8, scale and shift of each row."""
    big = tensor_of(weight).float()
    scale = (big.abs().amax(1) / 127).clamp_min(1e-30)
    small = (big / scale[:, None]).round().to(torch.int8)
    return small, scale, small.sum(1, dtype=torch.int32) * 128


def empty(rows: int, columns: int) -> Matrix:
    small = np.empty((rows, columns), np.int8)
    return Matrix(small, None, np.empty(rows, np.float32), np.empty(rows, np.int32))


@pytest.mark.parametrize("level", [*LEVELS, "numpy"])
@pytest.mark.parametrize("dtype", FORMATS)
def test_int8_is_what_torch_makes_of_them(level: str, dtype: np.dtype) -> None:
    for weight in (stored(dtype), stored(dtype, 96)[:, 11:50], stored(dtype)[3:4], stored(dtype)[:0]):
        found = empty(*weight.shape)
        if level == "numpy":
            quantise(weight, found)
        else:
            library.quantise(weight, found, level=level)
        for mine, theirs in zip((found.weight, found.scale, found.shift), by_torch(weight), strict=True):
            assert np.array_equal(mine, theirs.numpy())


@pytest.mark.parametrize("level", [*LEVELS, "numpy"])
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("to", [FLOAT32, BFLOAT16])
def test_floating_formats_are_what_torch_makes_of_them(level: str, dtype: np.dtype, to: np.dtype) -> None:
    whole = stored(dtype)
    whole[0, :3] = np.inf, -np.inf, np.nan
    for weight in (whole, stored(dtype, 96)[:, 11:50], whole[:0]):
        found = np.empty(weight.shape, to)
        if level == "numpy":
            found[...] = weight
        else:
            library.convert(weight, found, level=level)
        wanted = torch.empty_like(tensor_of(found)).copy_(tensor_of(np.ascontiguousarray(weight)))
        assert torch.equal(tensor_of(found).nan_to_num(7.0), wanted.nan_to_num(7.0))


@pytest.mark.parametrize("level", LEVELS)
def test_a_number_that_is_none_stays_to_be_seen(level: str) -> None:
    weight = stored(FLOAT32)
    weight[2, 4], weight[3, 82], weight[4, 0] = np.nan, np.inf, -np.inf
    found = empty(*weight.shape)
    library.quantise(weight, found, level=level)
    for scale in (found.scale, quantised(weight).scale):
        assert scale is not None
        assert np.flatnonzero(~np.isfinite(scale)).tolist() == [2, 3, 4]
