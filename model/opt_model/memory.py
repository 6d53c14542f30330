"""How much memory there is to take."""

from __future__ import annotations

from pathlib import Path

import psutil

GROUP = Path("/sys/fs/cgroup")


def memory_total(group: Path = GROUP) -> int:
    """Bytes that there are here in all: the host's, or what the container may take where that is less (cgroup v2)."""
    host, limit = int(psutil.virtual_memory().total), _limit(group)
    return host if limit is None else min(host, limit)


def memory_available(group: Path = GROUP) -> int:
    """Bytes that can still be allocated here: the host's, or the container's where that is less (cgroup v2)."""
    host, limit = int(psutil.virtual_memory().available), _limit(group)
    if limit is None:
        return host
    used = int((group / "memory.current").read_text())
    counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return min(host, limit - used + int(counts.get("inactive_file", 0)))


def _limit(group: Path) -> int | None:
    """What a container may take; None in the root group, without cgroup v2, and where there is no limit."""
    try:
        found = (group / "memory.max").read_text().strip()
    except OSError:
        return None
    return None if found == "max" else int(found)
