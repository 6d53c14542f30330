"""A pseudo-random permutation of 0..n-1 that is evaluated point by point: nothing of size n is ever held.

The swap-or-not shuffle (Hoang, Morris, Rogaway: "An enciphering scheme based on a card shuffle", CRYPTO 2012,
figure 1). A round pairs each x with k - x mod n and swaps the pair, or not, by one pseudo-random bit of the pair. It
works on any n exactly, without walking through a larger domain, and its distance from uniform falls exponentially in
the rounds.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.uint64]

ROUNDS_PER_BIT = 8
"""The paper suggests about 6 log2(n) rounds for all n points; a little more costs microseconds."""
MIN_ROUNDS = 96
"""For tiny n, where the bound says little: the distribution over all permutations of 4 and 5 is tested."""


class Permutation:
    """The permutation named by (seed, tweak) of `size` points; equal arguments give equal permutations anywhere."""

    def __init__(self, size: int, seed: int, tweak: int) -> None:
        if not 1 <= size < 2**62:
            raise ValueError(f"size of a permutation: found {size}, allowed are 1 to 2**62 - 1")
        self.size = size
        rounds = max(MIN_ROUNDS, ROUNDS_PER_BIT * size.bit_length())
        stream = hashlib.shake_256(f"opt-trainer data order 1:{size}:{seed}:{tweak}".encode()).digest(16 * rounds)
        words = np.frombuffer(stream, dtype="<u8").reshape(rounds, 2)
        self._pivots = words[:, 0] % np.uint64(size)
        self._keys = words[:, 1]

    def __call__(self, points: npt.ArrayLike) -> Indices:
        """Image of each point.

        Args:
            points: Integers in 0..size-1, of any shape.
        """
        given = np.asarray(points, dtype=np.uint64)
        x = given.reshape(-1)  # an array even of one point: numpy warns of the intended wrap-around in scalars
        n = np.uint64(self.size)
        for pivot, key in zip(self._pivots, self._keys, strict=True):
            partner = (pivot + (n - x)) % n
            x = np.where(_bit(np.maximum(x, partner), key), partner, x)
        return x.reshape(given.shape)


def _bit(value: Indices, key: np.uint64) -> npt.NDArray[np.bool_]:
    """One pseudo-random bit of each (value, key): Stafford's 64-bit mix 13, the finaliser of SplitMix64."""
    z = value ^ key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z >> np.uint64(63)).astype(np.bool_)
