"""A program that is process 1 of its container."""

from __future__ import annotations

import os
import signal


def end_on_sigterm() -> None:
    """As process 1, end at once from now on; who wants to end in order puts a handler of its own in place later.

    The kernel spares process 1 every signal that nobody handles (pid_namespaces(7)): without this, a pod deleted
    while its program still imports packages lives on until its grace is over. Any other process is left as it is.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
