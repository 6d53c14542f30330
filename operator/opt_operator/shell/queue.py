"""A queue of keys: each once, one at a time, again after a while, later and later if it fails.

It has lanes. Lost nodes, and what goes on with something that was written down a moment ago, go first; then what has
changed; then what is only due: with a thousand trainings there are a hundred of these looks a second, and nodes are
lost while they are made. Nobody is passed for longer than `PATIENCE_S`.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import defaultdict
from enum import IntEnum

from opt_operator.core.snapshot import Key
from opt_operator.shell.metrics import QUEUE_AGE, QUEUE_DEPTH

FIRST_S, LONGEST_S = 0.2, 60.0
BEHIND_S = 0.5
AT_ONCE_S = 0.1
"""A look that is put off for no longer goes on with what the one before has begun."""
ROUTINE_S = 5.0
"""A look that is put off for at least so long is routine."""
PATIENCE_S = 30.0
"""So long a key lets those of lanes before its own pass."""


class Lane(IntEnum):
    """Who goes before whom."""

    FIRST = 0
    CHANGED = 1
    ROUTINE = 2


class WorkQueue:
    """Keys to look at. One event loop uses it."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, dict[Key, float]] = {lane: {} for lane in Lane}
        self._busy: set[Key] = set()
        self._again: dict[Key, Lane] = {}
        self._later: list[tuple[float, int, Key, Lane]] = []
        self._due: dict[Key, float] = {}
        self._failures: defaultdict[Key, int] = defaultdict(int)
        self._numbers = itertools.count()
        self._changed = asyncio.Event()

    def add(self, key: Key, lane: Lane = Lane.CHANGED) -> None:
        """Look at it as soon as its lane allows; it stays in the better one of two."""
        if key in self._busy:
            self._again[key] = min(lane, self._again.get(key, lane))
            return
        there = next((held for held in Lane if key in self._lanes[held]), None)
        if there is not None and there <= lane:
            return
        if there is not None:
            del self._lanes[there][key]
        self._lanes[lane][key] = self._now()
        self._changed.set()

    def add_after(self, key: Key, wait_s: float) -> None:
        """Look at it then at the latest; an earlier date stands."""
        at = self._now() + wait_s
        if key in self._due and self._due[key] <= at:
            return
        self._due[key] = at
        heapq.heappush(self._later, (at, next(self._numbers), key, lane_of(wait_s)))
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
            try:  # not wait_for: up to Python 3.11 it loses a cancellation that comes with the event
                async with asyncio.timeout(wait):
                    await self._changed.wait()
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
        QUEUE_DEPTH.set(sum(map(len, self._lanes.values())))
        QUEUE_AGE.set(age)
        return age

    @property
    def behind(self) -> bool:
        """Whether the first of the queue has waited for long: there is more to do than gets done."""
        return self._waited_s() > BEHIND_S

    def _lane(self) -> dict[Key, float]:
        """From which the next key is taken; empty where there is none."""
        filled = [keys for keys in self._lanes.values() if keys]
        now = self._now()
        impatient = (keys for keys in filled[1:] if now - next(iter(keys.values())) > PATIENCE_S)
        return next(impatient, filled[0] if filled else {})

    def _waited_s(self) -> float:
        """How long the first of all lanes has waited."""
        firsts = [next(iter(keys.values())) for keys in self._lanes.values() if keys]
        return self._now() - min(firsts) if firsts else 0.0

    def _release(self, key: Key) -> None:
        self._busy.discard(key)
        if (lane := self._again.pop(key, None)) is not None:
            self.add(key, lane)

    def _promote(self) -> None:
        now = self._now()
        while self._later and self._later[0][0] <= now:
            at, _, key, lane = heapq.heappop(self._later)
            if self._due.get(key) == at:
                del self._due[key]
                self.add(key, lane)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def lane_of(wait_s: float) -> Lane:
    """Of a look that was put off for so long."""
    if wait_s <= AT_ONCE_S:
        return Lane.FIRST
    return Lane.ROUTINE if wait_s >= ROUTINE_S else Lane.CHANGED
