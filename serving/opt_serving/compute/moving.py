"""Matrices that lie in a file, moved to large pages while there is nothing else to do."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from opt_model.memory import memory_available
from opt_serving.compute.model import MatrixLinear, MatrixLookUp
from opt_serving.compute.room import Room
from opt_serving.kernels.library import Matrix

_PIECE = 8 << 20
"""Bytes copied at a time; whoever asks meanwhile waits for it."""


class Moving:
    """Copies float32 matrices out of mapped files, a piece at a time; the others stay where they are.

    A file lies in pages of 4 KiB, at whose ends a product with many rows waits: in float32 it takes a fifth longer than
    from pages of 2 MiB. In bfloat16 nothing of it was seen, and a mapped file is shared by all who serve it on a
    machine (decision 157).

    Args:
        modules: All layers of the model.
        others: Bytes of memory that others may still take: what would leave less than that stays in its file.
    """

    def __init__(self, modules: Iterable[nn.Module], others: int) -> None:
        self._others = others
        layers = (module for module in modules if isinstance(module, MatrixLinear | MatrixLookUp))
        self._left = deque(layer for layer in layers if layer.matrix.mapped and _worth_it(layer.matrix))
        self._room, self._to, self._copied = Room(), torch.empty(0), 0

    def __len__(self) -> int:
        """Matrices that are still in a file."""
        return len(self._left)

    def step(self) -> bool:
        """Copy a piece of the next one; whether it was the last, so that its layer has a new matrix now."""
        layer = self._left[0]
        old = layer.matrix.weight
        if self._copied == 0:
            if memory_available() < old.nbytes + self._others:
                self._left.clear()
                return False
            rows, columns = old.shape
            self._to = self._room.matrix(rows, columns, old.dtype)
        self._copied = _copy_some(old, self._to, self._copied)
        if self._copied < len(old):
            return False
        layer.matrix = Matrix(self._to, layer.matrix.bias)
        self._left.popleft()
        self._copied = 0
        return True


def _worth_it(matrix: Matrix) -> bool:
    return matrix.weight.dtype == torch.float32


def _copy_some(old: Tensor, new: Tensor, first: int) -> int:
    """Rows from `first` on, a piece of them; the row after the last."""
    last = min(len(old), first + max(1, _PIECE // old[0].nbytes))
    new[first:last] = old[first:last]
    return last
