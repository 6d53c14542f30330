"""Processes by identity: a pid together with its start time, so that a reused pid is never taken for another."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Before a command, from util-linux: the program ends with the process that started it, even when that is killed
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")


@dataclass(frozen=True)
class Process:
    """One process of this machine."""

    pid: int
    started: int  # clock ticks after boot: field 22 of /proc/PID/stat, see proc(5)

    @property
    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        found = _stat(self.pid)
        return found is not None and found == (self.started, True)

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """Sends `sig`, if the process is still this one."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def children(self) -> list["Process"]:
        """Its direct children."""
        try:
            listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return []
        return [process for pid in listed.split() if (process := find(int(pid)))]


def find(pid: int) -> Process | None:
    """The process that has `pid` now."""
    found = _stat(pid)
    return Process(pid, found[0]) if found else None


def identify(pid: int) -> Process:
    """The process that has `pid`, which must be the caller or a child that it has not waited for."""
    process = find(pid)
    assert process is not None
    return process


def me() -> Process:
    """The calling process."""
    return identify(os.getpid())


def wait_gone(processes: Iterable[Process], seconds: float) -> list[Process]:
    """Waits until none of `processes` is alive; returns those that still are after `seconds`."""
    deadline = time.monotonic() + seconds
    left = list(processes)
    while (left := [process for process in left if process.alive]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _stat(pid: int) -> tuple[int, bool] | None:
    """Start time, and whether it is more than a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return int(fields[19]), fields[0] not in "ZX"
