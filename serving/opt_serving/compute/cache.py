"""Keys and values of the compiled kernels, in pages whose memory is provided before it is asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opt_api.architecture import Architecture
from opt_model.zeros import LARGE, enlarge, touch, untouched_zeros
from opt_serving.settings import PAGE

_AHEAD = 256 << 20
"""Bytes that have memory ahead of those in use when there was nothing else to do, or twice what was taken anew between
two such times. Else prompts wait for the system to give it (decisions 156, 199, 207)."""


def empty_pages(
    shape: Architecture, heads: int, pages: int, dtype: np.dtype[Any], *, large: bool = True
) -> NDArray[Any]:
    """Room for keys and values of so many heads, [pages, layers, 2, H x PAGE x K]; none of it has memory yet.

    Args:
        shape: The model's.
        heads: Of all of its, those that are kept here.
        pages: How many.
        dtype: Number format of keys and values.
        large: See `untouched_zeros`.
    """
    size = (pages, shape.layers, 2, heads * PAGE * shape.head_size)
    return untouched_zeros(math.prod(size), dtype, large=large).reshape(size)


class PageRoom:
    """Pages of keys and values; the engine takes them from the first on.

    What a pass is the first to write to comes in small pages, for which it hardly waits. Between passes, while there is
    nothing to do, it goes to pages of 2 MiB, which a processor reads faster, and so does what follows it.

    Args:
        pages: As `empty_pages` makes them, not large.
    """

    def __init__(self, pages: NDArray[Any]) -> None:
        self.pages = pages
        self.used = self._settled = 0
        """Pages that were in use, and that were when there was last nothing to do."""
        self._page_bytes: int = pages[0].nbytes
        self._memory = pages.reshape(-1).view(np.uint8)
        self._provided = 0
        """Bytes of it that were seen to."""
        self._ahead = -(-_AHEAD // self._page_bytes)

    @property
    def provided(self) -> int:
        """Pages that have memory whether or not they were in use."""
        return self._provided // self._page_bytes

    def use(self, pages: int) -> None:
        """A pass has written to so many of the first pages."""
        self.used = max(self.used, pages)

    def prepare(self, *, whole: bool = False) -> bool:
        """See to the next 2 MiB, for which whoever asks meanwhile waits; False where enough was seen to.

        Args:
            whole: Only all of it is enough.
        """
        self._ahead = max(self._ahead, 2 * (self.used - self._settled))
        self._settled = self.used
        wanted = len(self.pages) if whole else min(len(self.pages), self.used + self._ahead)
        if self.provided >= wanted:
            return False
        first = self._provided
        self._provided = min(self._memory.nbytes, first + LARGE - (self._memory.ctypes.data + first) % LARGE)
        piece = self._memory[first : self._provided]
        if not enlarge(piece):
            touch(piece)
        return True
