"""How much of a mapping lies in pages of 2 MiB."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from opt_model.zeros import LARGE, enlarge, untouched_zeros

BYTE = np.dtype(np.uint8)


def in_large_pages(array: np.ndarray) -> int:
    """Bytes of the mappings that an array lies in: advice cuts one in two."""
    begin, total, inside, mapped = array.ctypes.data, 0, False, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if place := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(place[1], 16) < begin + array.nbytes and begin < int(place[2], 16)
        mapped = mapped or inside
        if inside and line.startswith("AnonHugePages:"):
            total += int(line.split()[1]) << 10
    assert mapped
    return total


def can_enlarge() -> bool:
    """Whether the system has such pages and moves memory to them."""
    probe = untouched_zeros(2 * LARGE, BYTE, large=False)
    probe[:] = 1
    return enlarge(probe)
