"""Writes to the store behind the coordinator's back, in order, for as long as it takes.

A store that is away for minutes must not hold up a recovery that needs nothing from it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import structlog

from opt_runtime.records.series import Taken
from opt_store import StoreError

Write = Callable[[], object]
RETRY_S = 1.0

log = structlog.get_logger(__name__)


class Scribe:
    """One thread that carries out writes in the order they came.

    Attributes:
        replaced: Set when another coordinator was found to be writing; nothing is written after that.
    """

    def __init__(self, retry_s: float = RETRY_S) -> None:
        self.replaced = threading.Event()
        self._retry_s = retry_s
        self._writes: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._pending = 0
        self._idle = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="scribe", daemon=True)
        self._thread.start()

    def put(self, write: Write) -> None:
        """Queue a write; it is repeated until the store takes it."""
        with self._idle:
            self._pending += 1
        self._writes.put(write)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything is written; False if time ran out first."""
        with self._idle:
            return self._idle.wait_for(lambda: self._pending == 0, timeout_s)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write what is left within the time given, and end; False if something was left unwritten."""
        done = self.flush(timeout_s)
        self._stopped.set()
        self._writes.put(None)
        self._thread.join(timeout_s)
        return done

    def _work(self) -> None:
        while (write := self._writes.get()) is not None:
            self._carry_out(write)
            with self._idle:
                self._pending -= 1
                self._idle.notify_all()

    def _carry_out(self, write: Write) -> None:
        while not self._stopped.is_set() and not self.replaced.is_set():
            try:
                write()
            except Taken as rival:
                log.warning("another coordinator is writing; this one ends", found=str(rival))
                self.replaced.set()
            except StoreError as fault:
                log.warning("the store did not take a record; trying again", fault=str(fault))
                self._stopped.wait(self._retry_s)
            else:
                return
