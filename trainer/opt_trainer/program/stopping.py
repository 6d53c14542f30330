"""SIGTERM and SIGINT: finish the step, save, end; and end anyway when the bound is over."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopFlag:
    """Set by the first request. A worker that hangs when it is asked, in a collective say, is ended by the clock."""

    def __init__(self, bound_s: float, overdue: Callable[[], None]) -> None:
        self._bound_s, self._overdue = bound_s, overdue
        self._timer: threading.Timer | None = None
        self.asked = False

    def ask(self) -> None:
        """Request a stop; `overdue` is called from another thread if the process still runs after the bound."""
        if self.asked:
            return
        self.asked = True
        self._timer = threading.Timer(self._bound_s, self._overdue)
        self._timer.daemon = True
        self._timer.start()

    def over(self) -> None:
        """The worker ends by itself; the clock stops."""
        if self._timer is not None:
            self._timer.cancel()


@contextmanager
def listening(flag: StopFlag) -> Iterator[None]:
    """Within, the signals set the flag; the handlers of before come back afterwards."""

    def handle(_signal: int, _frame: FrameType | None) -> None:
        flag.ask()

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        flag.over()
