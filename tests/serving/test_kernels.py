"""The compiled kernels against torch, at every level this processor has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from opt_model import native
from opt_serving.compute.matrices import multiply, quantised
from opt_serving.kernels import library
from opt_serving.kernels.library import Matrix

pytestmark = pytest.mark.unit
LEVELS = native.levels()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("rows", "width"), [(64, 64), (37, 83), (4, 3072), (1, 1), (87, 96), (16, 32)])
def test_products_are_torchs(level, rows, width):
    torch.manual_seed(rows)
    weight, bias = torch.randn(rows, width) / width**0.5, torch.randn(rows)
    for count in (1, 2, 3, 7, 8, 16, 17, 31, 50):
        x = torch.randn(count, width)
        wanted = torch.nn.functional.linear(x, weight, bias)
        assert torch.allclose(library.linear(Matrix(weight, bias), x, threads=1, level=level), wanted, atol=1e-5)
        half = weight.bfloat16()
        found = library.linear(Matrix(half, bias), x, threads=1, level=level)
        tiled = rows // 16 * 16 if level == "amx" and width % 32 == 0 else 0  # matrix tiles take x in bfloat16
        for some, seen in ((slice(tiled), x.bfloat16().float()), (slice(tiled, None), x)):
            wanted_half = torch.nn.functional.linear(seen, half[some].float(), bias[some])
            assert torch.allclose(found[:, some], wanted_half, atol=1e-5)
        relu = library.linear(Matrix(weight, bias), x, threads=1, relu=True, level=level)
        assert torch.allclose(relu, wanted.relu(), atol=1e-5)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("width", [211, 256])
def test_int8_products_are_those_of_rounded_numbers(level, width):
    torch.manual_seed(2)
    weight, bias, x = torch.randn(37, width), torch.randn(37), torch.randn(19, width)
    matrix = quantised(weight, bias)
    scale = x.abs().amax(1, keepdim=True) / 127
    rounded = (x / scale).round() * scale
    found = library.linear(matrix, x, threads=1, level=level)
    assert torch.allclose(found, multiply(matrix, rounded), atol=2e-3)
    assert (found - torch.nn.functional.linear(x, weight, bias)).abs().mean() < 0.2


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("width", [96, 128])
def test_a_row_does_not_depend_on_its_neighbours(level, width):
    torch.manual_seed(3)
    x, weight = torch.randn(40, width), torch.randn(50, width)
    for matrix in (Matrix(weight), Matrix(weight.bfloat16()), quantised(weight)):
        together = library.linear(matrix, x, threads=1, level=level)
        alone = torch.cat([library.linear(matrix, x[i : i + 1], threads=1, level=level) for i in range(40)])
        assert torch.equal(together, alone)
        assert torch.equal(together, library.linear(matrix, x, threads=2, level=level))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("count", "width"), [(0, 3072), (127, 3072), (129, 3072), (257, 3072), (40, 9001)])
def test_many_rows_are_multiplied_in_parts_and_the_same(level, count, width):
    """As many as the second cache holds at a time: 128 rows of 3072 in bfloat16, 64 in float32; each span by span."""
    torch.manual_seed(4)
    x, weight = torch.randn(count, width), torch.randn(61, width)
    for matrix in (Matrix(weight), Matrix(weight.bfloat16()), quantised(weight)):
        together = library.linear(matrix, x, threads=1, level=level)
        alone = [library.linear(matrix, x[i : i + 1], threads=1, level=level) for i in range(count)]
        assert torch.equal(together, torch.cat(alone) if alone else torch.empty(0, 61))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("width", [1, 3, 16, 50, 50272])
def test_the_first_of_the_largest_is_found(level, width):
    torch.manual_seed(5)
    few = torch.randint(3, (width,)).float()
    x = torch.stack([torch.randn(width), torch.full((width,), 2.0), torch.full((width,), -torch.inf), few])
    x[2, -1] = -1.0
    assert library.largest(x, level=level) == x.numpy().argmax(-1).tolist()
    part = x[:, : max(1, width // 2)]
    assert library.largest(part, level=level) == part.numpy().argmax(-1).tolist()


def test_rows_are_quantised_with_their_own_scale():
    weight = torch.tensor([[1.0, -2.0], [0.0, 0.0], [1e-3, 5e-4]])
    matrix = quantised(weight)
    assert matrix.scale is not None
    assert torch.allclose(matrix.weight * matrix.scale[:, None], weight, atol=0.01)
    assert torch.allclose((matrix.weight * matrix.scale[:, None])[2], weight[2], atol=1e-5)


def test_pages_are_those_of_the_engine():
    from opt_serving.settings import PAGE

    assert library.load().opt_page() == PAGE
    assert library.address(np.zeros(1)) > 0
