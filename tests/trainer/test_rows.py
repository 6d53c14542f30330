"""Parts as rows: matrices are looked at in place, vectors are gathered and spread, empty parts are left out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from opt_trainer.parallelism.boxes import Box
from opt_trainer.parallelism.build import Part
from opt_trainer.recipe.rows import rows_of

pytestmark = pytest.mark.unit
SHAPES = ((5, 4), (6,), (0, 4), (9,), (2, 3), (0,))
COPIES = (1, 2, 1, 1, 4, 1)


def parts_of(tensors: list[Tensor]) -> list[Part]:
    return [
        Part(str(n), nn.Parameter(t), t, tuple(t.shape), Box((0,) * t.dim(), tuple(t.shape), COPIES[n], owner=True))
        for n, t in enumerate(tensors)
    ]


@pytest.fixture
def tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def test_what_is_changed_in_rows_is_changed_in_the_parts(tensors: list[Tensor]) -> None:
    rows = rows_of(parts_of(tensors))
    expected = [tensor * 2 for tensor in tensors]
    for group in rows.groups:
        values_RC = rows.read(group, tensors)
        values_RC.mul_(2)
        rows.write(group, tensors, values_RC)
    assert all(torch.equal(tensor, wanted) for tensor, wanted in zip(tensors, expected, strict=True))


def test_vectors_are_one_matrix_and_empty_parts_none(tensors: list[Tensor]) -> None:
    rows = rows_of(parts_of(tensors))
    assert rows.groups == ((0,), (4,), (1, 3))
    assert [tuple(rows.read(group, tensors).shape) for group in rows.groups] == [(5, 4), (2, 3), (5, 3)]


def test_squares_of_what_several_hold_count_with_their_share(tensors: list[Tensor]) -> None:
    rows = rows_of(parts_of(tensors))
    found = rows.share([rows.read(group, tensors).square().sum(1) for group in rows.groups])
    wanted = sum(t.double().square().sum().item() / copies for t, copies in zip(tensors, COPIES, strict=True))
    assert found.item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("kept", [[(5, 4)], [(6,)]])
def test_matrices_or_vectors_alone_are_enough(kept: list[tuple[int, ...]]) -> None:
    tensors = [torch.ones(shape) for shape in kept]
    rows = rows_of(parts_of(tensors))
    assert rows.groups == ((0,),)
    assert rows.share([rows.read((0,), tensors).square().sum(1)]).item() == tensors[0].numel()
