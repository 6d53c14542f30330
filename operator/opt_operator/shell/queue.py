"""A queue of keys: each once, one at a time, again after a while, later and later if it fails.

It has two lanes. What has just changed goes first; a look that was only put off, because it is time for one, lets it
pass: with a thousand trainings there are a hundred of these a second, and nodes are lost while they are made.
"""

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
ROUTINE_S = 5.0
"""A look that was put off for at least so long is routine."""
PATIENCE_S = 30.0
"""So long a routine look lets others pass."""


class WorkQueue:
    """Keys to look at. One event loop uses it."""

    def __init__(self) -> None:
        self._ready: dict[Key, float] = {}
        self._routine: dict[Key, float] = {}
        self._busy: set[Key] = set()
        self._again: set[Key] = set()
        self._later: list[tuple[float, int, Key, bool]] = []
        self._due: dict[Key, float] = {}
        self._failures: defaultdict[Key, int] = defaultdict(int)
        self._numbers = itertools.count()
        self._changed = asyncio.Event()

    def add(self, key: Key) -> None:
        """Look at it as soon as possible."""
        if key in self._busy:
            self._again.add(key)
        else:
            self._routine.pop(key, None)
            self._ready.setdefault(key, self._now())
            self._changed.set()

    def add_after(self, key: Key, wait_s: float) -> None:
        """Look at it then at the latest; an earlier date stands."""
        at = self._now() + wait_s
        if key in self._due and self._due[key] <= at:
            return
        self._due[key] = at
        heapq.heappush(self._later, (at, next(self._numbers), key, wait_s >= ROUTINE_S))
        self._changed.set()

    async def take(self) -> Key:
        """The next key; call `done` or `failed` with it afterwards."""
        while True:
            self._promote()
            if lane := self._lane():
                key = next(iter(lane))
                del lane[key]
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
        age = self._waited_s()
        QUEUE_DEPTH.set(len(self._ready) + len(self._routine))
        QUEUE_AGE.set(age)
        return age

    @property
    def behind(self) -> bool:
        """Whether the first of the queue has waited for long: there is more to do than gets done."""
        return self._waited_s() > BEHIND_S

    def _lane(self) -> dict[Key, float]:
        """From which the next key is taken; empty where there is none."""
        impatient = self._routine and self._now() - next(iter(self._routine.values())) > PATIENCE_S
        first, second = (self._routine, self._ready) if impatient else (self._ready, self._routine)
        return first or second

    def _waited_s(self) -> float:
        """How long the first of both lanes has waited."""
        firsts = [next(iter(lane.values())) for lane in (self._ready, self._routine) if lane]
        return self._now() - min(firsts) if firsts else 0.0

    def _release(self, key: Key) -> None:
        self._busy.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _promote(self) -> None:
        now = self._now()
        while self._later and self._later[0][0] <= now:
            at, _, key, routine = heapq.heappop(self._later)
            if self._due.get(key) != at:
                continue
            del self._due[key]
            if not routine or key in self._busy:
                self.add(key)
            elif key not in self._ready:
                self._routine.setdefault(key, now)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
