"""Zeros that take memory where they are first touched, and not before."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

_POPULATE_WRITE = 23
"""MADV_POPULATE_WRITE (Linux 5.14), which Python's `mmap` does not name."""
_PAGE = mmap.PAGESIZE


def touch(array: NDArray[Any]) -> bool:
    """Have the system provide an array's memory now; False where it is too old to. Changes no number.

    Args:
        array: Whose numbers lie side by side.
    """
    begin = int(array.ctypes.data)
    start = begin // _PAGE * _PAGE
    length = begin + array.nbytes - start
    return not ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _POPULATE_WRITE)


def untouched_zeros(count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros on the processor, [count], for which the system clears memory where they are first read or written.

    In pages of 2 MiB where it has them: it clears those two to three times as fast as pages of 4 KiB.
    """
    room = mmap.mmap(-1, max(1, count) * dtype.itemsize, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages refuses the advice
        room.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(room, dtype)[:count]
