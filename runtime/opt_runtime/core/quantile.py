"""A quantile of the newest values of a stream."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque


class WindowQuantile:
    """Exact quantiles of the last `size` values, in O(size) a value and memory that does not grow.

    A window and not a sketch of all history (P-square, t-digest), because a deadline must follow a run whose steps
    become slower or faster after a live change; at a few hundred values exact is also the smaller code.
    """

    def __init__(self, size: int = 512) -> None:
        self._arrived: deque[float] = deque(maxlen=size)
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._arrived)

    def add(self, value: float) -> None:
        """Take one more value, forgetting the oldest when the window is full.

        Raises:
            ValueError: It is not finite.
        """
        if not math.isfinite(value):
            raise ValueError(f"value {value}: a quantile needs finite numbers")
        if len(self._arrived) == self._arrived.maxlen:
            del self._sorted[bisect_left(self._sorted, self._arrived[0])]
        self._arrived.append(value)
        insort(self._sorted, value)

    def quantile(self, q: float) -> float | None:
        """The smallest value with at least a share `q` of the window at or below it; None when empty."""
        if not self._sorted:
            return None
        return self._sorted[max(math.ceil(q * len(self._sorted)) - 1, 0)]
