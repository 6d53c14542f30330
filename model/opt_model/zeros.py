"""Zeros that take memory where they are first touched, and not before."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

_POPULATE_WRITE, _COLLAPSE = 23, 25
"""MADV_POPULATE_WRITE (Linux 5.14) and MADV_COLLAPSE (6.1), which Python's `mmap` does not name."""
_PAGE, LARGE = mmap.PAGESIZE, 2 << 20
"""Bytes of a page, and of a large one."""


def touch(array: NDArray[Any]) -> bool:
    """Have the system provide an array's memory now; False where it is too old to. Changes no number.

    Args:
        array: Whose numbers lie side by side.
    """
    begin = int(array.ctypes.data)
    return _advise(begin // _PAGE * _PAGE, begin + array.nbytes, _POPULATE_WRITE)


def enlarge(array: NDArray[Any]) -> bool:
    """Put an array's memory into pages of 2 MiB, as far as whole ones lie in it; False where the system does not.

    What had no memory has some then, in such pages at once. Changes no number.
    """
    begin = int(array.ctypes.data)
    start, end = -(-begin // LARGE) * LARGE, (begin + array.nbytes) // LARGE * LARGE
    steps = (mmap.MADV_HUGEPAGE, _POPULATE_WRITE, _COLLAPSE)
    return start < end and all(_advise(start, end, step) for step in steps)


def untouched_zeros(count: int, dtype: np.dtype[Any], *, large: bool = True) -> NDArray[Any]:
    """Zeros on the processor, [count], for which the system clears memory where they are first read or written.

    Args:
        count: How many.
        dtype: Their number format.
        large: In pages of 2 MiB where the system has them: it clears those two to three times as fast as pages of
            4 KiB. A virtual machine whose host takes back what is free may wait a long time for each, and gets small
            ones at once; `enlarge` changes them later.
    """
    room = mmap.mmap(-1, max(1, count) * dtype.itemsize, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages refuses the advice
        room.madvise(mmap.MADV_HUGEPAGE if large else mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(room, dtype)[:count]


def _advise(start: int, end: int, what: int) -> bool:
    return not ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), what)
