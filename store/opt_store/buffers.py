"""Memory for large transfers."""

import mmap

_SMALL = 1 << 20
"""Bytes below which the allocator's memory does as well."""


def new_buffer(size: int) -> memoryview:
    """Return `size` zero bytes to read into.

    Private, because shared memory, the default of `mmap`, costs a third more to fill; not a `bytearray`, because that
    is written once before it is used; without huge pages (docs/decisions/0022). Reuse the buffer where you can: filling
    fresh memory takes a page fault for every 4 KiB, more than half of the processor time of a fast transfer.
    """
    if size < _SMALL:
        return memoryview(bytearray(size))
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
