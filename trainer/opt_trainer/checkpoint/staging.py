"""Shared memory between the trainer and its writer process."""

from __future__ import annotations

import ctypes
import mmap
import os
from contextlib import suppress

import torch

from opt_model.memory import memory_available
from opt_trainer.checkpoint.errors import SaveFailed

_MADV_POPULATE_WRITE = 23
"""Linux 5.14; Python has no name for it."""


class Staging:
    """An anonymous file in memory, as large as the largest image so far, and reused: memory stays flat.

    A memfd needs no room in /dev/shm (64 MiB in a container unless told otherwise), has no name that a kill could leave
    behind, and is freed when trainer and writer are gone.
    """

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("opt-checkpoint", os.MFD_CLOEXEC)
        self._map: mmap.mmap | None = None

    @property
    def size(self) -> int:
        """Bytes allocated."""
        return len(self._map) if self._map else 0

    def reserve(self, size: int) -> None:
        """Allocate and map at least `size` bytes now, so that no copy meets a page fault or a full memory later.

        Raises:
            SaveFailed: There is not enough memory.
        """
        if size <= self.size:
            return
        self._unmap()
        if size - self._allocated() > (free := memory_available()):
            raise SaveFailed(
                f"staging memory: {size} bytes of shared memory are needed, {free} are free on this host or in this "
                "container; raise the memory limit by the size of one rank's state, or save from more ranks"
            )
        os.posix_fallocate(self.descriptor, 0, size)
        self._map = mmap.mmap(self.descriptor, size)
        with suppress(OSError):  # on an older kernel the first copy maps the pages
            self._map.madvise(_MADV_POPULATE_WRITE)

    def _allocated(self) -> int:
        return os.fstat(self.descriptor).st_size

    def write(self, data: bytes) -> None:
        """Put bytes at the beginning."""
        assert self._map is not None, "reserve comes first"
        self._map[: len(data)] = data

    def copy_in(self, tensor: torch.Tensor, start: int) -> None:
        """Put a tensor's elements, in row-major order, at byte `start`.

        A contiguous one in main memory is copied without holding the interpreter's lock, so that training goes on.
        """
        assert self._map is not None, "reserve comes first"
        if tensor.device.type == "cpu" and tensor.is_contiguous():
            here = ctypes.addressof(ctypes.c_char.from_buffer(self._map, start))
            ctypes.memmove(here, tensor.data_ptr(), tensor.nbytes)
        else:
            target = torch.frombuffer(self._map, dtype=tensor.dtype, count=tensor.numel(), offset=start)
            target.view(tensor.shape).copy_(tensor)

    def close(self) -> None:
        """Unmap and close this process's end."""
        self._unmap()
        os.close(self.descriptor)

    def _unmap(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None
