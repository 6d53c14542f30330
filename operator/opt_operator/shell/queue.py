"""A queue of keys: each once, one at a time, again after a while, later and later if it fails."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import defaultdict

from opt_operator.core.snapshot import Key
from opt_operator.shell.metrics import QUEUE_AGE, QUEUE_DEPTH

FIRST_S, LONGEST_S = 0.2, 60.0
BEHIND_S = 0.5


class WorkQueue:
    """Keys to look at. One event loop uses it."""

    def __init__(self) -> None:
        self._ready: dict[Key, float] = {}
        self._busy: set[Key] = set()
        self._again: set[Key] = set()
        self._later: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._failures: defaultdict[Key, int] = defaultdict(int)
        self._numbers = itertools.count()
        self._changed = asyncio.Event()

    def add(self, key: Key) -> None:
        """Look at it as soon as possible."""
        if key in self._busy:
            self._again.add(key)
        else:
            self._ready.setdefault(key, self._now())
            self._changed.set()

    def add_after(self, key: Key, wait_s: float) -> None:
        """Look at it then at the latest; an earlier date stands."""
        at = self._now() + wait_s
        if key in self._due and self._due[key] <= at:
            return
        self._due[key] = at
        heapq.heappush(self._later, (at, next(self._numbers), key))
        self._changed.set()

    async def take(self) -> Key:
        """The next key; call `done` or `failed` with it afterwards."""
        while True:
            self._promote()
            if self._ready:
                key = next(iter(self._ready))
                del self._ready[key]
                self._busy.add(key)
                return key
            self._changed.clear()
            wait = self._later[0][0] - self._now() if self._later else None
            try:
                await asyncio.wait_for(self._changed.wait(), wait)
            except TimeoutError:
                continue

    def done(self, key: Key) -> None:
        """It went well."""
        self._failures.pop(key, None)
        self._release(key)

    def failed(self, key: Key, at_least_s: float = 0.0) -> float:
        """It did not; again after a while, which is returned, in seconds."""
        self._failures[key] += 1
        wait = min(FIRST_S * 2 ** (self._failures[key] - 1), LONGEST_S) * random.uniform(0.75, 1.25)
        self._release(key)
        self.add_after(key, max(wait, at_least_s))
        return float(max(wait, at_least_s))

    def measure(self) -> float:
        """Update the metrics; seconds that the first of the queue has waited."""
        age = self._now() - min(self._ready.values()) if self._ready else 0.0
        QUEUE_DEPTH.set(len(self._ready))
        QUEUE_AGE.set(age)
        return age

    @property
    def behind(self) -> bool:
        """Whether the first of the queue has waited for long: there is more to do than gets done."""
        return bool(self._ready) and self._now() - next(iter(self._ready.values())) > BEHIND_S

    def _release(self, key: Key) -> None:
        self._busy.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _promote(self) -> None:
        now = self._now()
        while self._later and self._later[0][0] <= now:
            at, _, key = heapq.heappop(self._later)
            if self._due.get(key) == at:
                del self._due[key]
                self.add(key)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
