"""SIGTERM and SIGINT: finish the step, save, end; and end anyway when the bound is over."""

from __future__ import annotations

import signal
import socket
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
    """Within, the signals set the flag, at once; the handlers of before come back afterwards.

    Python runs handlers in the main thread between two of its own instructions, and a collective that waits for a dead
    peer never gets there. The interpreter's C handler writes to the wake-up descriptor at once: a thread listens there.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = {number: signal.signal(number, _noted) for number in SIGNALS}
    old = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    listener = threading.Thread(target=_listen, args=(ours, flag), name="signals", daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        theirs.close()
        listener.join()
        ours.close()
        flag.over()


def _noted(_signal: int, _frame: FrameType | None) -> None:
    """Python must have a handler, so that the signal does not end the process; the wake-up has done the work."""


def _listen(source: socket.socket, flag: StopFlag) -> None:
    while numbers := source.recv(64):
        if any(number in SIGNALS for number in numbers):
            flag.ask()
