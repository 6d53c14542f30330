"""Geometry of boxes, against arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opt_trainer.checkpoint.boxes import Box, covers_exactly, intersect

pytestmark = pytest.mark.unit

WHOLE = (6, 5, 4)


def box_strategy():
    def one(n):
        return st.integers(0, n).flatmap(lambda a: st.tuples(st.just(a), st.integers(0, n - a)))

    return st.tuples(*(one(n) for n in WHOLE)).map(lambda d: Box(tuple(a for a, _ in d), tuple(n for _, n in d)))


def cells(box: Box) -> np.ndarray:
    held = np.zeros(WHOLE, bool)
    held[tuple(slice(a, a + n) for a, n in zip(box.offset, box.shape, strict=True))] = True
    return held


@settings(max_examples=60)
@given(a=box_strategy(), b=box_strategy())
def test_intersection_is_the_common_cells(a, b):
    both = cells(a) & cells(b)
    common = intersect(a, b)
    assert (common is None) == (not both.any())
    if common:
        assert np.array_equal(cells(common), both)
        inside = np.zeros(a.shape, bool)
        inside[common.within(a)] = True
        assert inside.sum() == both.sum()


def test_scalars_are_boxes_too():
    scalar = Box((), ())
    assert intersect(scalar, scalar) == scalar
    assert covers_exactly((), [scalar]) is None
    assert "hold 0 elements" in covers_exactly((), [])


def grid(cut0: int, cut1: int) -> list[Box]:
    return [
        Box((a, b, 0), (m, n, 4)) for a, m in ((0, cut0), (cut0, 6 - cut0)) for b, n in ((0, cut1), (cut1, 5 - cut1))
    ]


@pytest.mark.parametrize(("cut0", "cut1"), [(3, 2), (0, 5), (6, 0), (1, 1)])
def test_a_grid_covers_exactly(cut0, cut1):
    assert covers_exactly(WHOLE, grid(cut0, cut1)) is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda g: g[:-1], "hold 84 elements, the shape"),
        (lambda g: [*g, g[0]], "hold 144 elements"),
        (lambda g: [*g[:-1], Box((3, 1, 0), (3, 3, 4))], "overlap"),
        (lambda g: [*g[:-1], Box((4, 2, 0), (3, 3, 4))], "reaches out"),
    ],
)
def test_gaps_overlaps_and_outliers_are_named(spoil, message):
    pieces = [
        Box((0, 0, 0), (3, 2, 4)),
        Box((0, 2, 0), (3, 3, 4)),
        Box((3, 0, 0), (3, 2, 4)),
        Box((3, 2, 0), (3, 3, 4)),
    ]
    assert message in covers_exactly(WHOLE, spoil(pieces))
