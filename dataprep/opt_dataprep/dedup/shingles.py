"""Shingles: runs of words of the normalised text, as 64-bit numbers, for many documents at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from opt_dataprep.packing.permutation import mix
from opt_dataprep.pieces import LINE_END, Column, Pieces, by_text, look_up

_KEYS_SEED = 0x51A6


@dataclass
class Shingler:
    """Makes the shingles of documents; a document shorter than `words` is one shingle.

    Words are what `str.split` gives. A shingle is told by 64 bits: two different ones among a million documents of a
    thousand shingles are taken for one with a chance of 3 %, and then change one Jaccard value by a thousandth.
    """

    words: int
    _known: dict[bytes, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Odd keys, one for each place, so that the order of words counts.
        self._keys = mix(np.arange(self.words, dtype=np.uint64) + np.uint64(_KEYS_SEED)) | np.uint64(1)

    def shingle(self, texts: Any) -> Column[np.uint64]:
        """Return the shingles of a string column end to end, repeats included, and where each text's begin.

        Args:
            texts: An Arrow string array without nulls.
        """
        values, bounds = by_text(texts, self._words, lambda text: _hashes(map(str.encode, text.split())))
        counts, begins = np.diff(bounds), bounds[:-1]
        mixed = self._windows(values)
        for row in np.flatnonzero((counts < self.words) & (counts > 0)):
            short = values[begins[row] : begins[row] + counts[row]]
            mixed[begins[row]] = (short * self._keys[: len(short)]).sum(dtype=np.uint64)
        kept = np.where(counts > 0, np.maximum(counts - self.words + 1, 1), 0)
        offsets = np.concatenate(([0], np.cumsum(kept)))
        places = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - begins, kept)
        return mix(mixed[places]), offsets

    def _words(self, pieces: Pieces) -> Column[np.uint64]:
        """Hashes of the words of regular texts: all pieces but the line ends."""
        indices = pieces.indices.to_numpy()
        is_word = np.array([piece != LINE_END for piece in pieces.distinct], bool)[indices]
        bounds = np.concatenate(([0], np.cumsum(is_word)))[pieces.bounds]
        found = look_up(self._known, pieces.distinct, lambda new: map(xxhash.xxh3_64_digest, map(bytes.strip, new)))
        return _numbers(found)[indices[is_word]], bounds

    def _windows(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Weighted sums of `words` values from each place on; those that run off the end are never used."""
        sums: NDArray[np.uint64] = values * self._keys[0]
        for at in range(1, min(self.words, len(values))):
            sums[:-at] += values[at:] * self._keys[at]
        return sums


def _hashes(words: Iterable[bytes]) -> NDArray[np.uint64]:
    return _numbers(map(xxhash.xxh3_64_digest, words))


def _numbers(digests: Iterable[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def shingle_set(shingles: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The different ones, sorted."""
    return np.unique(shingles)


def jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Size of the intersection over size of the union of two shingle sets."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)
