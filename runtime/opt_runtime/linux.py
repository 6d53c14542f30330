"""The few things that Linux knows about processes and Python's standard library does not say."""

from __future__ import annotations

import ctypes
import signal
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends: a host is lost whole (prctl(2))."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def process_state(pid: int) -> str:
    """One letter of proc(5): R running, S sleeping, D waiting for a device, T stopped, Z ended; empty for no such."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped by a signal or a tracer."""
    return process_state(pid) in {"T", "t"}


def memory_available() -> int:
    """Bytes that can still be allocated here: the host's, or the container's where that is less (cgroup v2)."""
    host = _entries("/proc/meminfo")["MemAvailable:"] * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        reclaimable = _entries(f"{group}/memory.stat").get("inactive_file", 0)
    except OSError:
        return host  # the root group, or no cgroup v2
    return host if limit == "max" else min(host, int(limit) - used + reclaimable)


def _entries(path: str) -> dict[str, int]:
    return {line[0]: int(line[1]) for line in map(str.split, Path(path).read_text().splitlines())}


def processes_of_session(session: int) -> list[int]:
    """Ids of every process in a session (proc(5), field 6 of stat), its leader last."""
    found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return sorted((pid for pid in found if _session(pid) == session), key=lambda pid: pid == session)


def _session(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3])
    return 0
