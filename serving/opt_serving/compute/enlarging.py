"""Memory of weights that were converted, put into large pages while there is nothing else to do."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from opt_model.zeros import LARGE, enlarge


class Enlarging:
    """Goes through memory a large page at a time, for which whoever asks meanwhile waits.

    Where the system has none, it stays as it is.

    Args:
        memory: Whose numbers are all in use.
    """

    def __init__(self, memory: Iterable[NDArray[np.uint8]]) -> None:
        self._left = deque(page for part in memory for page in _large_pages(part))

    def step(self) -> bool:
        """Enlarge the next piece; False where none is left."""
        if not self._left:
            return False
        enlarge(self._left.popleft())
        return True


def _large_pages(part: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    first = -part.ctypes.data % LARGE
    return (part[at : at + LARGE] for at in range(first, len(part) - LARGE + 1, LARGE))
