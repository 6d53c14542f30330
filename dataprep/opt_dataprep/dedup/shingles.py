"""Shingles: runs of words of the normalised text, as 64-bit numbers, for many documents at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import xxhash
from numpy.typing import NDArray

from opt_dataprep.packing.permutation import mix

_MEMO = 200_000
"""Words whose hashes are remembered; natural text has few different ones."""
_KEYS_SEED = 0x51A6


class _WordHashes(dict[str, int]):
    def __missing__(self, word: str) -> int:
        if len(self) >= _MEMO:
            self.clear()
        value = self[word] = xxhash.xxh3_64_intdigest(word.encode())
        return value


@dataclass
class Shingler:
    """Makes the shingles of documents; a document shorter than `words` is one shingle.

    Words are what `str.split` gives. A shingle is told by 64 bits: two different ones among a million documents of a
    thousand shingles are taken for one with a chance of 3 %, and then change one Jaccard value by a thousandth.
    """

    words: int
    _hashes: _WordHashes = field(default_factory=_WordHashes)

    def __post_init__(self) -> None:
        # Odd keys, one for each place, so that the order of words counts.
        self._keys = mix(np.arange(self.words, dtype=np.uint64) + np.uint64(_KEYS_SEED)) | np.uint64(1)

    def shingle(self, texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return the shingles of all texts end to end, repeats included, and where each text's begin, and the end."""
        split = [text.split() for text in texts]
        counts = np.array([len(words) for words in split], np.int64)
        every = [word for words in split for word in words]
        values = np.fromiter(map(self._hashes.__getitem__, every), np.uint64, len(every))
        begins = np.cumsum(counts) - counts
        mixed = self._windows(values)
        for row in np.flatnonzero((counts < self.words) & (counts > 0)):
            short = values[begins[row] : begins[row] + counts[row]]
            mixed[begins[row]] = (short * self._keys[: len(short)]).sum(dtype=np.uint64)
        kept = np.where(counts > 0, np.maximum(counts - self.words + 1, 1), 0)
        offsets = np.concatenate(([0], np.cumsum(kept)))
        places = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - begins, kept)
        return mix(mixed[places]), offsets

    def _windows(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Weighted sums of `words` values from each place on; those that run off the end are never used."""
        sums: NDArray[np.uint64] = values * self._keys[0]
        for at in range(1, min(self.words, len(values))):
            sums[:-at] += values[at:] * self._keys[at]
        return sums


def shingle_set(shingles: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The different ones, sorted."""
    return np.unique(shingles)


def jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Size of the intersection over size of the union of two shingle sets."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)
