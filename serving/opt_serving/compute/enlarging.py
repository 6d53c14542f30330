"""Memory of weights that were converted, put into large pages while there is nothing else to do."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from opt_model.zeros import enlarge

_PIECE = 2 << 20
"""Bytes at a time; whoever asks meanwhile waits for it."""


class Enlarging:
    """Goes through memory a piece at a time; where the system cannot, it stays as it is.

    Args:
        memory: Whose numbers are all in use.
    """

    def __init__(self, memory: Iterable[NDArray[np.uint8]]) -> None:
        pieces = (part[at : at + _PIECE] for part in memory for at in range(0, len(part), _PIECE))
        self._left = deque(pieces)

    def step(self) -> bool:
        """Enlarge the next piece; False where none is left."""
        if not self._left:
            return False
        enlarge(self._left.popleft())
        return True
