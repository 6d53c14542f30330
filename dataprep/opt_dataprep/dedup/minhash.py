"""MinHash sketches (Broder, "On the resemblance and containment of documents", 1997) and the keys of their bands.

Two implementations; which one is in a plan, for their sketches differ: rensa's core, and numpy where it is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray

from opt_dataprep.errors import DataprepError
from opt_dataprep.packing.permutation import mix

SEED = 42
_CHUNK = 1 << 15
"""Shingles that numpy works on at a time: their products stay in the processor's cache."""

Shingles = NDArray[np.uint64]
Offsets = NDArray[np.int64]
Sketches = NDArray[np.uint32]


def minhash_version() -> str:
    """Name and version of the implementation at hand, for the plan."""
    try:
        return f"rensa {version('rensa')}"
    except PackageNotFoundError:
        return "numpy 1"


def sketch(shingles: Shingles, offsets: Offsets, permutations: int, wanted: str) -> Sketches:
    """Return the sketch of each document, shape (documents, permutations).

    Args:
        shingles: Of all documents, end to end; each document has at least one.
        offsets: Where each document's begin, and the end.
        permutations: Values of a sketch.
        wanted: The plan's `minhash_version`.

    Raises:
        DataprepError: This worker has another implementation than the plan.
    """
    name = wanted.partition(" ")[0]
    if name == "rensa" and minhash_version() != wanted:
        raise DataprepError(f"the plan was made with {wanted}, this worker has {minhash_version()}; install the former")
    return _IMPLEMENTATIONS[name](shingles, offsets, permutations)


def _rensa(shingles: Shingles, offsets: Offsets, permutations: int) -> Sketches:
    make = import_module("rensa").RMinHash.digest_matrix_from_flat_token_hashes
    rows = make(np.ascontiguousarray(shingles), offsets.astype(np.uint64), permutations, SEED).to_rows()
    return np.array(rows, np.uint32).reshape(-1, permutations)


def _numpy(shingles: Shingles, offsets: Offsets, permutations: int) -> Sketches:
    """Multiply-shift (Dietzfelbinger et al., 1997): the high 32 bits of a x + b modulo 2^64, a odd."""
    keys = mix(np.arange(2 * permutations, dtype=np.uint64) + np.uint64(SEED))
    factors, terms = keys[:permutations] | np.uint64(1), keys[permutations:]
    sketches = np.empty((len(offsets) - 1, permutations), np.uint32)
    first = 0
    while first < len(offsets) - 1:
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + _CHUNK, side="right")) - 1)
        values = shingles[offsets[first] : offsets[last]]
        starts = offsets[first:last] - offsets[first]
        for at, (factor, term) in enumerate(zip(factors, terms, strict=True)):
            products = (values * factor + term) >> np.uint64(32)
            sketches[first:last, at] = np.minimum.reduceat(products, starts)
        first = last
    return sketches


_IMPLEMENTATIONS: dict[str, Callable[[Shingles, Offsets, int], Sketches]] = {"rensa": _rensa, "numpy": _numpy}


def band_keys(sketches: Sketches, bands: int, rows: int) -> NDArray[np.uint64]:
    """One 64-bit key of each band of each sketch, shape (bands, documents)."""
    columns = sketches.astype(np.uint64).reshape(len(sketches), bands, rows)
    keys = np.zeros((len(sketches), bands), np.uint64)
    for row in range(rows):
        keys = mix(keys + columns[:, :, row] + np.uint64(row + 1))
    return np.ascontiguousarray(keys.T)
