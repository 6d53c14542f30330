"""A seeded permutation of any size without a table: a Feistel network with cycle walking.

Each place can be computed by itself, forwards and back, so that no worker holds the order of a whole corpus
(Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6
Places = NDArray[np.uint64]


def mix(values: Places) -> Places:
    """splitmix64's finaliser (Steele et al., "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Permutation:
    """A permutation of 0 .. size - 1."""

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._half = max(1, (max(1, size - 1).bit_length() + 1) // 2)
        self._mask = np.uint64((1 << self._half) - 1)
        start = np.arange(1, ROUNDS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        self._keys = mix(start + mix(np.array([seed], np.uint64)))

    def forward(self, places: NDArray[np.integer]) -> NDArray[np.int64]:
        """Where each of `places` goes."""
        return self._walk(places, [*self._keys], inverse=False)

    def back(self, places: NDArray[np.integer]) -> NDArray[np.int64]:
        """What lies at each of `places` after the permutation."""
        return self._walk(places, [*self._keys[::-1]], inverse=True)

    def _walk(self, places: NDArray[np.integer], keys: list[np.uint64], *, inverse: bool) -> NDArray[np.int64]:
        values = places.astype(np.uint64)
        outside = np.ones(len(values), bool)
        while outside.any():
            values[outside] = self._network(values[outside], keys, inverse=inverse)
            outside = values >= self._size
        return values.astype(np.int64)

    def _network(self, values: Places, keys: list[np.uint64], *, inverse: bool) -> Places:
        left, right = values >> np.uint64(self._half), values & self._mask
        for key in keys:
            if inverse:
                left, right = right ^ (mix(left + key) & self._mask), left
            else:
                left, right = right, left ^ (mix(right + key) & self._mask)
        return (left << np.uint64(self._half)) | right
