"""The seekable permutation: exact, the same everywhere, and as good as uniform."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from opt_trainer.data.permutation import Permutation

pytestmark = pytest.mark.integration

GOLDEN_10 = [3, 8, 6, 1, 5, 2, 4, 9, 7, 0]
GOLDEN_BIG = [332991615, 231150854, 688399150, 7613409]


@pytest.mark.parametrize("size", [*range(1, 40), 1000, 4096, 100_003])
def test_is_a_bijection(size):
    image = Permutation(size, 7, 0)(np.arange(size))
    assert sorted(image.tolist()) == list(range(size))


def test_one_point_equals_the_same_point_of_many():
    permutation = Permutation(10**12, 3, 5)
    points = np.array([0, 1, 17, 10**12 - 1, 123_456_789_012])
    assert permutation(points).tolist() == [int(permutation(p)) for p in points]
    assert permutation(points.reshape(5, 1)).shape == (5, 1)


def test_golden_values_never_change():
    """A run that resumes under newer code must see the same order."""
    assert Permutation(10, 1, 0)(np.arange(10)).tolist() == GOLDEN_10
    assert Permutation(10**9 + 7, 42, 3)([0, 1, 2, 999_999_999]).tolist() == GOLDEN_BIG


@pytest.mark.parametrize("size", [2, 3, 4])
def test_all_permutations_of_a_tiny_set_are_equally_likely(size):
    trials, kinds = 30 * math.factorial(size), math.factorial(size)
    seen = Counter(tuple(Permutation(size, seed, 0)(np.arange(size)).tolist()) for seed in range(trials))
    assert len(seen) == kinds
    assert _chi_square_z(list(seen.values()), trials / kinds) < 4


def test_images_of_every_point_are_uniform():
    size, trials = 64, 600
    images = np.stack([Permutation(size, seed, 1)(np.arange(size)) for seed in range(trials)])
    counts = np.stack([np.bincount(images[:, point].astype(int), minlength=size) for point in range(size)])
    assert abs(_chi_square_z(counts.ravel().tolist(), trials / size, freedom=(size - 1) ** 2)) < 4


def test_neighbours_land_apart_like_independent_points():
    """Differences of images of neighbours are uniform over the non-zero residues."""
    size = 101
    images = np.stack([Permutation(size, seed, 2)(np.arange(size)).astype(int) for seed in range(200)])
    steps = (np.diff(images, axis=1) % size).ravel()
    counts = np.bincount(steps, minlength=size)
    assert counts[0] == 0
    assert _chi_square_z(counts[1:].tolist(), steps.size / (size - 1)) < 4


def test_epochs_and_seeds_are_unrelated():
    size = 1000
    base = Permutation(size, 1, 0)(np.arange(size))
    others = [Permutation(size, 1, 1), Permutation(size, 2, 0), Permutation(size + 1, 1, 0)]
    for other in others:
        assert np.count_nonzero(base == other(np.arange(size))) < 8  # 1 expected; P(8 or more) is about 1e-5


def test_bad_size_is_refused_with_what_is_allowed():
    with pytest.raises(ValueError, match=r"found 0, allowed are 1 to"):
        Permutation(0, 1, 0)


def _chi_square_z(counts: list[int], expected: float, freedom: int | None = None) -> float:
    """Chi-square statistic in standard deviations from its mean."""
    statistic = sum((c - expected) ** 2 / expected for c in counts)
    freedom = len(counts) - 1 if freedom is None else freedom
    return (statistic - freedom) / math.sqrt(2 * freedom)
