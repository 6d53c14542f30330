"""Keys and values of the compiled kernels, in pages whose memory is provided before it is asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opt_api.architecture import Architecture
from opt_model.zeros import touch, untouched_zeros
from opt_serving.settings import PAGE

_AHEAD = 256 << 20
"""Bytes that are touched ahead of those in use while there is nothing else to do, or twice what was taken anew between
two such times. Else prompts wait for the system to give them (decisions 156, 199)."""
_PIECE = 2 << 20
"""Bytes touched at a time; whoever asks meanwhile waits for it."""


def empty_pages(shape: Architecture, heads: int, pages: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Room for keys and values of so many heads, [pages, layers, 2, H x PAGE x K]; none of it has memory yet."""
    size = (pages, shape.layers, 2, heads * PAGE * shape.head_size)
    return untouched_zeros(math.prod(size), dtype).reshape(size)


class PageRoom:
    """Pages that `empty_pages` made; the engine takes them from the first on."""

    def __init__(self, pages: NDArray[Any]) -> None:
        self.pages = pages
        self.touched = self.used = self._settled = 0
        """Pages that have memory, that were in use, and that were when there was last nothing to do."""
        self._ahead = -(-_AHEAD // self.pages[0].nbytes)

    def use(self, pages: int) -> None:
        """A pass has written to so many of the first pages."""
        self.used = max(self.used, pages)
        self.touched = max(self.touched, self.used)

    def prepare(self) -> bool:
        """Touch the next pages, in the order in which the engine takes them; False where enough have memory."""
        self._ahead = max(self._ahead, 2 * (self.used - self._settled))
        self._settled = self.used
        first, last = self.touched, min(len(self.pages), self.used + self._ahead)
        if first >= last:
            return False
        self.touched = min(last, first + max(1, _PIECE // self.pages[0].nbytes))
        touch(self.pages[first : self.touched])
        return True
