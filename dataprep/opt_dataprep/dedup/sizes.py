"""How many clusters of duplicates there are of each size, in powers of two: small, and enough for a plot."""

from __future__ import annotations

from collections.abc import Iterable


def add_sizes(sizes: dict[str, int], lengths: Iterable[int]) -> None:
    """Count clusters by their size, rounded down to a power of two."""
    for length in lengths:
        name = str(1 << (int(length).bit_length() - 1))
        sizes[name] = sizes.get(name, 0) + 1
