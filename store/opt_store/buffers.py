"""Memory for large transfers."""

import mmap

_HUGE = 2 << 20
"""Bytes of a huge page on x86-64 and, with 4 KiB base pages, on arm64."""


def new_buffer(size: int) -> memoryview:
    """Return `size` zero bytes to read into, backed by huge pages where the kernel has them to give.

    Filling fresh memory takes a page fault for every 4 KiB otherwise, half of the processor time of a fast transfer
    (docs/decisions/0022). Reuse the buffer where you can; that is faster still.
    """
    if size < 2 * _HUGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return memoryview(bytearray(size))
    # Private: shared memory, the default of this call, is not backed by huge pages.
    area = mmap.mmap(-1, -(-size // _HUGE) * _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(area)[:size]
