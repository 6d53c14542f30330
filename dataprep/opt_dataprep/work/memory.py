"""Giving memory back: a worker does many tasks of many sizes, and must not keep what the largest once took."""

from __future__ import annotations

import ctypes

import pyarrow as pa

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""Names of glibc's settings (malloc.h)."""
_BYTES = 256 << 10


def give_memory_back() -> None:
    """Return freed memory of this process to the system at once, from here on.

    glibc raises both thresholds to the largest block ever freed (mallopt(3)), unless they are set; Arrow's own pools
    keep what was freed. Other C libraries are left as they are.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        for name in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            set_option(name, _BYTES)
