"""The compiled kernels against torch, at every level this processor has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from opt_model import native
from opt_model.exchange.stored import BFLOAT16
from opt_serving.compute.matrices import quantised
from opt_serving.compute.torch_arithmetic import TorchArithmetic
from opt_serving.kernels import library
from opt_serving.kernels.library import Matrix

pytestmark = pytest.mark.unit
LEVELS = native.levels()


def drawn(*shape: int) -> NDArray[np.float32]:
    return torch.randn(shape).numpy()


def formats(weight: NDArray[np.float32]) -> tuple[Matrix, ...]:
    return Matrix(weight), Matrix(weight.astype(BFLOAT16)), quantised(weight)


def by_torch(weight: NDArray[np.float32], x: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float32]:
    return torch.nn.functional.linear(*map(torch.from_numpy, (x, weight, bias))).numpy()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("rows", "width"), [(64, 64), (37, 83), (4, 3072), (1, 1), (87, 96), (16, 32)])
def test_products_are_torchs(level, rows, width):
    torch.manual_seed(rows)
    weight, bias = drawn(rows, width) / np.float32(width**0.5), drawn(rows)
    half = weight.astype(BFLOAT16)
    for count in (1, 2, 3, 7, 8, 16, 17, 31, 50):
        x = drawn(count, width)
        wanted = by_torch(weight, x, bias)
        assert np.allclose(library.linear(Matrix(weight, bias), x, threads=1, level=level), wanted, atol=1e-5)
        found = library.linear(Matrix(half, bias), x, threads=1, level=level)
        tiled = rows // 16 * 16 if level == "amx" and width % 32 == 0 else 0  # matrix tiles take x in bfloat16
        for some, seen in ((slice(tiled), x.astype(BFLOAT16).astype(np.float32)), (slice(tiled, None), x)):
            wanted_half = by_torch(half[some].astype(np.float32), seen, bias[some])
            assert np.allclose(found[:, some], wanted_half, atol=1e-5)
        relu = library.linear(Matrix(weight, bias), x, threads=1, relu=True, level=level)
        assert np.allclose(relu, wanted.clip(0), atol=1e-5)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("width", [211, 256])
def test_int8_products_are_those_of_rounded_numbers(level, width):
    torch.manual_seed(2)
    weight, bias, x = drawn(37, width), drawn(37), drawn(19, width)
    matrix = quantised(weight, bias)
    scale = np.abs(x).max(1, keepdims=True) / 127
    rounded = torch.from_numpy(np.rint(x / scale) * scale)
    found = library.linear(matrix, x, threads=1, level=level)
    arithmetic = TorchArithmetic(torch.device("cpu"))
    assert np.allclose(found, arithmetic.multiply(arithmetic.hold(matrix), rounded).numpy(), atol=2e-3)
    assert np.abs(found - by_torch(weight, x, bias)).mean() < 0.2


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("width", [96, 128])
def test_a_row_does_not_depend_on_its_neighbours(level, width):
    torch.manual_seed(3)
    x, weight = drawn(40, width), drawn(50, width)
    for matrix in formats(weight):
        together = library.linear(matrix, x, threads=1, level=level)
        alone = np.concatenate([library.linear(matrix, x[i : i + 1], threads=1, level=level) for i in range(40)])
        assert np.array_equal(together, alone)
        assert np.array_equal(together, library.linear(matrix, x, threads=2, level=level))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("count", "width"), [(0, 3072), (127, 3072), (129, 3072), (257, 3072), (40, 9001)])
def test_many_rows_are_multiplied_in_parts_and_the_same(level, count, width):
    """As many as the second cache holds at a time: 128 rows of 3072 in bfloat16, 64 in float32; each span by span."""
    torch.manual_seed(4)
    x, weight = drawn(count, width), drawn(61, width)
    for matrix in formats(weight):
        together = library.linear(matrix, x, threads=1, level=level)
        alone = [library.linear(matrix, x[i : i + 1], threads=1, level=level) for i in range(count)]
        assert np.array_equal(together, np.concatenate(alone) if alone else np.empty((0, 61)))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("width", [1, 3, 16, 50, 50272])
def test_the_first_of_the_largest_is_found(level, width):
    torch.manual_seed(5)
    few = torch.randint(3, (width,)).float().numpy()
    x = np.stack([drawn(width), np.full(width, 2.0, np.float32), np.full(width, -np.inf, np.float32), few])
    x[2, -1] = -1.0
    assert library.largest(x, level=level) == x.argmax(-1).tolist()
    part = x[:, : max(1, width // 2)]
    assert library.largest(part, level=level) == part.argmax(-1).tolist()


def test_rows_are_quantised_with_their_own_scale():
    weight = np.array([[1.0, -2.0], [0.0, 0.0], [1e-3, 5e-4]], np.float32)
    matrix = quantised(weight)
    assert matrix.scale is not None
    assert np.allclose(matrix.weight * matrix.scale[:, None], weight, atol=0.01)
    assert np.allclose((matrix.weight * matrix.scale[:, None])[2], weight[2], atol=1e-5)


def test_pages_are_those_of_the_engine():
    from opt_serving.settings import PAGE

    assert library.load().opt_page() == PAGE
    assert library.address(np.zeros(1)) > 0
