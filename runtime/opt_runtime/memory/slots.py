"""Slots: places for whole states in shared memory, such that a writer may be killed at any instruction.

A rank has three slots in one anonymous file (memfd): the newest two complete states and the one being written. A slot
is a header page and a body: eight bytes with the length of a table, the table of named parts in JSON, and the parts.
The header is written last, with a digest of the body; a state that was being written when its writer died is simply
not there, and one that was changed afterwards is found out. The file belongs to nobody's name and goes away with the
last process that holds it.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import struct
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import xxhash

from opt_runtime.linux import memory_available

SLOTS = 3
PAGE = mmap.PAGESIZE
SLACK = 16 * PAGE
"""Room for states that are a little longer than the first one: the loop's own state is text and varies."""
_HEADER = struct.Struct("<8sQQQQQ")
_MAGIC = b"OPTSLOT2"
_COMPLETE = 1
_LENGTH = struct.Struct("<Q")

Buffer = bytes | bytearray | memoryview
Fill = Callable[[memoryview], None]
"""Fills a slot's body from somewhere else."""


class SlotDamaged(ValueError):  # noqa: N818 - caught by what happened
    """A slot's body does not have the digest its header says."""


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """Header of a complete slot: whose state of which step it is, and bytes and digest (XXH3) of its body."""

    index: int
    unit: int
    trajectory: int
    step: int
    size: int
    digest: int


class SlotFile:
    """Three slots of one unit of state in the file `fd`. Every process that has the descriptor sees the same.

    One process writes at a time: the rank's worker, or the agent while no worker runs.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map: mmap.mmap | None = None

    @classmethod
    def create(cls, name: str) -> SlotFile:
        """A new, empty file in memory; the descriptor is inherited by programs that are given it."""
        slots = cls(os.memfd_create(name, 0))
        weakref.finalize(slots, os.close, slots.fd)
        return slots

    def infos(self) -> list[SlotInfo]:
        """Complete slots, the newest last."""
        return sorted(filter(None, map(self._info, range(SLOTS))), key=lambda info: info.step)

    def find(self, unit: int, trajectory: int, step: int) -> SlotInfo | None:
        """The complete slot with that state."""
        wanted = (unit, trajectory, step)
        return next((i for i in self.infos() if (i.unit, i.trajectory, i.step) == wanted), None)

    def write(self, unit: int, trajectory: int, step: int, parts: Mapping[str, Buffer]) -> SlotInfo:
        """Put a state in place of the oldest. The parts are read without holding the interpreter's lock.

        Raises:
            OSError: No memory is left (ENOSPC, ENOMEM, EFBIG); the older states are still there.
        """
        views = [memoryview(part).cast("B") for part in parts.values()]
        table = json.dumps([[name, view.nbytes] for name, view in zip(parts, views, strict=True)]).encode()
        pieces = [memoryview(_LENGTH.pack(len(table)) + table), *views]
        index, body = self._open_slot(sum(piece.nbytes for piece in pieces))
        digest, at = xxhash.xxh3_64(), 0
        for piece in pieces:
            _copy(body[at : at + piece.nbytes], piece)
            digest.update(piece)
            at += piece.nbytes
        return self._seal(SlotInfo(index, unit, trajectory, step, at, digest.intdigest()))

    def put(self, unit: int, trajectory: int, step: int, size: int, digest: int, fill: Fill) -> SlotInfo:
        """Put a state that lies elsewhere: `fill` writes a body of `size` bytes; nothing is checked yet.

        Raises:
            OSError: As `write`, or `fill` could not read it.
        """
        index, body = self._open_slot(size)
        fill(body)
        return self._seal(SlotInfo(index, unit, trajectory, step, size, digest))

    def body(self, info: SlotInfo) -> memoryview:
        """The body as it lies in shared memory, to be sent elsewhere; it changes once the slot is written again."""
        start = self._start(info.index) + PAGE
        return self._mapped()[start : start + info.size]

    def check(self, info: SlotInfo) -> None:
        """Hold a slot against its digest.

        Raises:
            SlotDamaged: It was changed after it was written; the slot is dropped.
        """
        if xxhash.xxh3_64_intdigest(self.body(info)) != info.digest:
            self._clear(info.index)
            raise SlotDamaged(
                f"slot {info.index}, unit {info.unit} of step {info.step}: its bytes are not those that were written"
            )

    def read(self, info: SlotInfo) -> dict[str, memoryview]:
        """The parts, as views of shared memory: valid until the slot is written again."""
        body = self.body(info)
        first = _LENGTH.size + _LENGTH.unpack_from(body)[0]
        table = json.loads(bytes(body[_LENGTH.size : first]))
        parts, at = {}, first
        for name, size in table:
            parts[name] = body[at : at + size]
            at += size
        return parts

    def keep(self, trajectory: int, last_step: int | None = None) -> None:
        """Drop states of other trajectories, and those after `last_step`."""
        for info in self.infos():
            if info.trajectory != trajectory or (last_step is not None and info.step > last_step):
                self._clear(info.index)

    def drop_all(self) -> None:
        """Hold nothing any more."""
        for index in range(SLOTS):
            self._clear(index)

    def _info(self, index: int) -> SlotInfo | None:
        header = os.pread(self.fd, _HEADER.size, self._start(index)) if self._stride() else b""
        if len(header) < _HEADER.size:
            return None
        magic, state, ident, step, size, digest = _HEADER.unpack(header)
        if magic != _MAGIC or state != _COMPLETE:
            return None
        return SlotInfo(index, ident >> 32, ident & 0xFFFFFFFF, step, size, digest)

    def _open_slot(self, size: int) -> tuple[int, memoryview]:
        """Number and body of the oldest slot, now empty."""
        index = self._oldest()
        self._clear(index)
        start = self._reserve(index, size) + PAGE
        return index, self._mapped()[start : start + size]

    def _oldest(self) -> int:
        used = {info.index: info.step for info in self.infos()}
        return min(range(SLOTS), key=lambda index: used.get(index, -1))

    def _clear(self, index: int) -> None:
        if self._stride():
            os.pwrite(self.fd, bytes(_HEADER.size), self._start(index))

    def _seal(self, info: SlotInfo) -> SlotInfo:
        ident = info.unit << 32 | info.trajectory
        header = _HEADER.pack(_MAGIC, _COMPLETE, ident, info.step, info.size, info.digest)
        os.pwrite(self.fd, header, self._start(info.index))
        return info

    def _reserve(self, index: int, size: int) -> int:
        """Where the slot begins, after making room. A longer state than ever before takes all slots' places anew.

        Memory is allocated here and now: a store into a mapping that finds none left would be a SIGBUS. For the same
        reason the file never shrinks under a process that may be reading it.
        """
        stride = PAGE + -(-size // PAGE) * PAGE
        if stride > self._stride():
            _allocate(self.fd, (stride + SLACK) * SLOTS)
            self.drop_all()
        return self._start(index)

    def _mapped(self) -> memoryview:
        size = self._stride() * SLOTS
        if self._map is None or len(self._map) != size:
            self._map = mmap.mmap(self.fd, size)
        return memoryview(self._map)

    def _stride(self) -> int:
        return os.fstat(self.fd).st_size // SLOTS // PAGE * PAGE

    def _start(self, index: int) -> int:
        return index * self._stride()


def shared(parts: Mapping[str, Buffer], number: int, of: int) -> Iterator[str]:
    """Names of the parts that the `number`-th of `of` holders of equal states keeps; all together keep each once."""
    loads = [0] * of
    for name, part in sorted(parts.items(), key=lambda item: (-memoryview(item[1]).nbytes, item[0])):
        lightest = loads.index(min(loads))
        loads[lightest] += memoryview(part).nbytes
        if lightest == number:
            yield name


def _allocate(fd: int, size: int) -> None:
    more, free = size - os.fstat(fd).st_size, memory_available()
    if more > free:
        raise OSError(errno.ENOSPC, f"{more} more bytes of shared memory are needed, {free} are free here")
    os.posix_fallocate(fd, 0, size)


def _copy(to: memoryview, source: memoryview) -> None:
    np.copyto(np.frombuffer(to, np.uint8), np.frombuffer(source, np.uint8))
