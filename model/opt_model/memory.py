"""How much memory there is to take."""

from __future__ import annotations

from pathlib import Path

import psutil

GROUP = Path("/sys/fs/cgroup")


def memory_total(group: Path = GROUP) -> int:
    """Bytes that there are here in all: the host's, or what the container may take where that is less (cgroup v2)."""
    host = int(psutil.virtual_memory().total)
    try:
        limit = (group / "memory.max").read_text().strip()
    except OSError:
        return host  # the root group, or no cgroup v2
    return host if limit == "max" else min(host, int(limit))


def memory_available(group: Path = GROUP) -> int:
    """Bytes that can still be allocated here: the host's, or the container's where that is less (cgroup v2)."""
    host = int(psutil.virtual_memory().available)
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return host  # the root group, or no cgroup v2
    reclaimable = int(counts.get("inactive_file", 0))
    return host if limit == "max" else min(host, int(limit) - used + reclaimable)
