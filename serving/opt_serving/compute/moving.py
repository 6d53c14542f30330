"""Matrices that lie in a file, moved to large pages while there is nothing else to do."""

from __future__ import annotations

from collections import deque
from collections.abc import MutableMapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opt_model.memory import memory_available
from opt_serving.compute.room import Room
from opt_serving.kernels.library import FLOAT32, Matrix

_PIECE = 2 << 20
"""Bytes copied at a time; whoever asks meanwhile waits for it."""


class Moving:
    """Copies float32 matrices out of mapped files, a piece at a time; the others stay where they are.

    A file lies in pages of 4 KiB, at whose ends a product with many rows waits: in float32 it takes a fifth longer than
    from pages of 2 MiB. In bfloat16 nothing of it was seen, and a mapped file is shared by all who serve it on a
    machine (decision 157).

    Args:
        matrices: All of the model, by name; those that moved are put there.
        others: Bytes of memory that others may still take: what would leave less than that stays in its file.
    """

    def __init__(self, matrices: MutableMapping[str, Matrix], others: int) -> None:
        self._matrices, self._others = matrices, others
        self._left = deque(name for name, matrix in matrices.items() if matrix.mapped and _worth_it(matrix))
        self._room, self._copied = Room(), 0
        self._to: NDArray[Any] = np.empty(0)

    def __len__(self) -> int:
        """Matrices that are still in a file."""
        return len(self._left)

    def step(self) -> bool:
        """Copy a piece of the next one; whether it was the last, so that there is a new matrix now."""
        matrix = self._matrices[self._left[0]]
        old = matrix.weight
        if self._copied == 0:
            if memory_available() < old.nbytes + self._others:
                self._left.clear()
                return False
            rows, columns = old.shape
            self._to = self._room.matrix(rows, columns, old.dtype)
        self._copied = _copy_some(old, self._to, self._copied)
        if self._copied < len(old):
            return False
        self._matrices[self._left.popleft()] = Matrix(self._to, matrix.bias)
        self._copied = 0
        return True


def _worth_it(matrix: Matrix) -> bool:
    return matrix.weight.dtype == FLOAT32


def _copy_some(old: NDArray[Any], new: NDArray[Any], first: int) -> int:
    """Rows from `first` on, a piece of them; the row after the last."""
    last: int = min(len(old), first + max(1, _PIECE // old[0].nbytes))
    new[first:last] = old[first:last]
    return last
