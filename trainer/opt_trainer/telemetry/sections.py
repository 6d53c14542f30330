"""Which part of the loop a rank is in, since when, and how long each took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from opt_api.training.resilience import Section

Clock = Callable[[], float]


class SectionTimer:
    """Sections may nest; the innermost one is the current one, and time is counted once, for the innermost.

    Reading it from another thread is safe, so that a heartbeat can tell of a loop that hangs.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None, clock: Clock = time.monotonic) -> None:
        self._clock, self._changed, self._lock = clock, changed, Lock()
        self._stack: list[tuple[Section, float]] = [("init", clock())]
        self._since = clock()
        self._seconds: dict[str, float] = {}

    @property
    def current(self) -> tuple[Section, float]:
        """Innermost section and the seconds since it was entered."""
        with self._lock:
            name, entered = self._stack[-1]
            return name, self._clock() - entered

    @contextmanager
    def section(self, name: Section) -> Iterator[None]:
        """Be in a section."""
        self._switch(name)
        try:
            yield
        finally:
            self._switch(None)

    def take(self) -> dict[str, float]:
        """Seconds per section since the last call; they add up to the wall time between the calls."""
        with self._lock:
            self._count()
            taken, self._seconds = self._seconds, {}
            return taken

    def _switch(self, name: Section | None) -> None:
        with self._lock:
            self._count()
            if name is None:
                self._stack.pop()
            else:
                self._stack.append((name, self._clock()))
        self._changed()

    def _count(self) -> None:
        now, name = self._clock(), self._stack[-1][0]
        self._seconds[name] = self._seconds.get(name, 0.0) + now - self._since
        self._since = now
