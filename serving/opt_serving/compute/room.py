"""Memory for matrices that are made when a model is opened."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from opt_model.zeros import untouched_zeros

_BYTE = np.dtype(np.uint8)
_CHUNK = 64 << 20
"""Bytes taken from the system at a time, or as many as one matrix needs."""
_LINE = 64
"""Bytes of a cache line, with which every matrix begins."""


class Room:
    """Matrices side by side in pages of 2 MiB: a processor reads them a twentieth faster than in pages of 4 KiB.

    What is not given out is never touched, and so takes no memory. Memory goes back when all that lies in it is gone.
    """

    def __init__(self) -> None:
        self._left = np.empty(0, _BYTE)

    def matrix(self, rows: int, columns: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Zeros [rows, columns]."""
        size = rows * columns * dtype.itemsize
        taken = -(-size // _LINE) * _LINE
        if taken > len(self._left):
            self._left = self._taken(max(taken, _CHUNK))
        mine, self._left = self._left[:size], self._left[taken:]
        return mine.view(dtype).reshape(rows, columns)

    def _taken(self, size: int) -> NDArray[np.uint8]:
        return untouched_zeros(size, _BYTE)


class RoomAtOnce(Room):
    """In small pages, for which nobody waits; they are to be enlarged when there is time. Memory stays with this."""

    def __init__(self) -> None:
        super().__init__()
        self._chunks = [self._left]

    @property
    def given(self) -> list[NDArray[np.uint8]]:
        """All that was given out."""
        *before, last = self._chunks
        return [*before, last[: len(last) - len(self._left)]]

    def _taken(self, size: int) -> NDArray[np.uint8]:
        self._chunks = [*self.given, untouched_zeros(size, _BYTE, large=False)]
        return self._chunks[-1]
