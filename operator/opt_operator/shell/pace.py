"""How many looks are made at once: as many as the API server answers quickly.

Additive increase, multiplicative decrease, as TCP has it (RFC 5681): while looks are quick one more is tried every so
often, and one that took long takes half of them away. Where the API server is the limit, more looks at once get no
more done; each only takes longer, and everybody else waits, too (decision 174).
"""

from __future__ import annotations

import asyncio

from opt_operator.shell.metrics import AT_ONCE

LEAST, BEGIN, MOST = 2, 4, 16
QUICK_S = 0.3
"""A look with writes that took longer says that there are too many."""
CUT = 1 / 2


class Pace:
    """The number of looks at once, between `LEAST` and `MOST`."""

    def __init__(self) -> None:
        self._allowed = float(BEGIN)
        self._cut_s = -QUICK_S
        self._more = asyncio.Event()
        AT_ONCE.set(BEGIN)

    @property
    def allowed(self) -> int:
        """So many."""
        return int(self._allowed)

    async def turn(self, worker: int) -> None:
        """Wait until this worker may look; they are numbered from 0."""
        while worker >= self.allowed:
            self._more.clear()
            await self._more.wait()

    def took(self, seconds: float) -> None:
        """A look that wrote is over. Those that overlap with one that was too long say nothing new."""
        now = asyncio.get_running_loop().time()
        if seconds <= QUICK_S:
            self._allowed = min(self._allowed + 1 / self._allowed, MOST)
            self._more.set()
        elif now - seconds >= self._cut_s:
            self._allowed, self._cut_s = max(self._allowed * CUT, LEAST), now
        AT_ONCE.set(self.allowed)
