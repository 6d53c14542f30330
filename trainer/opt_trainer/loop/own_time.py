"""Seconds that this rank itself worked, without waiting for its peers."""

from __future__ import annotations

import time
from pathlib import Path

import torch

_SCHEDULE = Path("/proc/thread-self/schedstat")


class OwnTime:
    """Time in which the calling thread ran, or would have run had the host had a processor free.

    A worker that waits in a collective sleeps, and that is not counted. Time on the run queue is: a host that gives its
    processors to others is as slow a host as one whose clock is throttled, and processor time alone would not show it.
    Linux counts both for each thread (proc(5), `schedstat`); the thread that steps takes part in every parallel region.
    """

    def __init__(self, device: str) -> None:
        self._countable = device == "cpu"
        self._began = _seconds()

    def taken(self) -> float | None:
        """Seconds since this object was made; None on an accelerator, whose work no thread of the host can tell."""
        return _seconds() - self._began if self._countable else None


def _seconds() -> float:
    try:
        ran, queued = _SCHEDULE.read_text().split()[:2]
    except OSError:  # a kernel without scheduler statistics: processor time of all threads, as if all were always busy
        return time.process_time() / max(1, torch.get_num_threads())
    return (int(ran) + int(queued)) / 1e9
