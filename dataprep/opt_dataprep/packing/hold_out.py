"""Which documents are held out: of each source its share of documents, within its share of the bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RECORD = np.dtype([("draw", "<u8"), ("part", "<u4"), ("row", "<u4"), ("bytes", "<u4"), ("tokens", "<u4")])


@dataclass(frozen=True)
class Quota:
    """What one source may give: documents and bytes of text."""

    documents: int
    bytes: int


def quotas(documents: list[int], sizes: list[int], fraction: float, max_bytes: int) -> list[Quota]:
    """Share of each source, in proportion to its size; never more than half of a source's documents.

    Args:
        documents: Documents of each source.
        sizes: Bytes of text of each source.
        fraction: Share of documents to hold out.
        max_bytes: Upper bound of held-out text over all sources.
    """
    total = max(1, sum(sizes))
    return [
        Quota(min(math.ceil(fraction * n), n // 2) if max_bytes else 0, max_bytes * size // total)
        for n, size in zip(documents, sizes, strict=True)
    ]


class HoldOut:
    """Keeps the documents with the smallest draws of one source, as many as the quota allows; bounded memory."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._best: NDArray[np.void] = np.zeros(0, RECORD)

    def add(self, records: NDArray[np.void]) -> None:
        """Consider more documents."""
        both = np.concatenate((self._best, records))
        order = np.lexsort((both["row"], both["part"], both["draw"]))
        self._best = both[order[: self._quota.documents]]

    def chosen(self) -> NDArray[np.void]:
        """The documents held out, in the order of parts and rows."""
        fits = np.cumsum(self._best["bytes"], dtype=np.int64) <= self._quota.bytes
        chosen = self._best[: int(np.argmin(fits))] if not fits.all() else self._best
        return chosen[np.lexsort((chosen["row"], chosen["part"]))]
