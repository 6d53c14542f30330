"""The squared norm of what a worker holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from opt_trainer.parallelism.boxes import Box
from opt_trainer.parallelism.build import Part
from opt_trainer.recipe.norm import square_share

pytestmark = pytest.mark.unit
SHAPES = ((3,), (4096,), (5, 4096), (4097,), (3, 5000), (0, 7))
"""Less than a row, whole ones, rows and a rest, and a part that another worker holds."""


def part(tensor: Tensor, copies: int) -> Part:
    box = Box((0,) * tensor.dim(), tuple(tensor.shape), copies, owner=True)
    return Part("weight", nn.Parameter(tensor), tensor, tuple(tensor.shape), box)


@pytest.mark.parametrize("copies", [1, 2])
def test_it_is_the_sum_of_all_squares_and_that_of_copies_counts_once(copies: int) -> None:
    generator = torch.Generator().manual_seed(1)
    tensors = [torch.randn(shape, generator=generator) for shape in SHAPES]
    parts = [part(tensor, copies) for tensor in tensors]
    wanted = sum(tensor.double().square().sum().item() for tensor in tensors)
    share = square_share(parts, tensors)
    assert (share.dtype, share.shape) == (torch.float64, (1,))
    assert share.item() * copies == pytest.approx(wanted, rel=1e-7)


@pytest.mark.parametrize("wrong", [float("inf"), float("nan")])
@pytest.mark.parametrize("at", [0, 4096])
def test_a_number_that_is_none_is_seen_wherever_it_is(wrong: float, at: int) -> None:
    tensor = torch.zeros(4097)
    tensor[at] = wrong
    assert not square_share([replace(part(tensor, 1), whole=(4097,))], [tensor]).isfinite()
