"""Slots: places for whole states in shared memory, such that a writer may be killed at any instruction.

A rank has three slots in one anonymous file (memfd): the newest two complete states and the one being written. A slot
is a header page, a table of named parts in JSON, and the parts. The header says `complete` only after everything else
is in place; a state that was being written when its writer died is simply not there. The file belongs to nobody's name
and goes away with the last process that holds it.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import xxhash

SLOTS = 3
PAGE = mmap.PAGESIZE
SLACK = 16 * PAGE
"""Room for states that are a little longer than the first one: the loop's own state is text and varies."""
_HEADER = struct.Struct("<8sQQQQQQ")
_MAGIC = b"OPTSLOT1"
_COMPLETE = 1

Buffer = bytes | bytearray | memoryview


class SlotDamaged(ValueError):  # noqa: N818 - caught by what happened
    """A slot's table does not have the digest its header says."""


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """Header of a complete slot; `table` and `size` in bytes, of the table and of all parts together."""

    index: int
    rank: int
    trajectory: int
    step: int
    table: int
    size: int


class SlotFile:
    """Three slots of one rank in the file `fd`. Every process that has the descriptor sees the same.

    One process writes at a time: the rank's worker, or the agent while no worker runs.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def create(cls, name: str) -> SlotFile:
        """A new, empty file in memory; the descriptor is inherited by programs that are given it."""
        return cls(os.memfd_create(name, 0))

    def infos(self) -> list[SlotInfo]:
        """Complete slots, the newest last."""
        return sorted(filter(None, map(self._info, range(SLOTS))), key=lambda info: info.step)

    def find(self, step: int, trajectory: int) -> SlotInfo | None:
        """The complete slot with that state."""
        return next((i for i in self.infos() if (i.step, i.trajectory) == (step, trajectory)), None)

    def write(self, rank: int, trajectory: int, step: int, parts: Mapping[str, Buffer]) -> SlotInfo:
        """Put a state in place of the oldest.

        Raises:
            OSError: No memory is left (ENOSPC, ENOMEM); the older states are still there.
        """
        views = {name: memoryview(part).cast("B") for name, part in parts.items()}
        table = json.dumps([[name, view.nbytes] for name, view in views.items()]).encode()
        size = sum(view.nbytes for view in views.values())
        index = self._oldest()
        self._clear(index)
        start = self._reserve(index, len(table) + size)
        self._fill(start + PAGE, table, views)
        info = SlotInfo(index, rank, trajectory, step, len(table), size)
        self._seal(info, xxhash.xxh3_64_intdigest(table))
        return info

    def read(self, info: SlotInfo) -> dict[str, memoryview]:
        """The parts, as views of a private copy-on-write mapping: valid while they are held.

        Raises:
            SlotDamaged: The table is not what was written.
        """
        raw = self.raw(info)
        table = json.loads(bytes(raw[: info.table]))
        parts, at = {}, info.table
        for name, size in table:
            parts[name] = raw[at : at + size]
            at += size
        return parts

    def raw(self, info: SlotInfo) -> memoryview:
        """Table and parts as they lie, to be sent elsewhere.

        Raises:
            SlotDamaged: As `read`.
        """
        start, length = self._start(info.index), PAGE + info.table + info.size
        mapped = memoryview(mmap.mmap(self.fd, length, mmap.MAP_PRIVATE, mmap.PROT_READ, offset=start))
        digest = _HEADER.unpack_from(mapped)[-1]
        raw = mapped[PAGE:]
        if xxhash.xxh3_64_intdigest(raw[: info.table]) != digest:
            raise SlotDamaged(f"slot {info.index} of rank {info.rank}, step {info.step}: its table was changed")
        return raw

    def put_raw(self, rank: int, trajectory: int, step: int, table: int, raw: Buffer) -> SlotInfo:
        """Put a state that another host sent, as `raw` gave it there."""
        index = self._oldest()
        self._clear(index)
        start = self._reserve(index, len(raw))
        view = memoryview(raw)
        _write_all(self.fd, view, start + PAGE)
        info = SlotInfo(index, rank, trajectory, step, table, len(view) - table)
        self._seal(info, xxhash.xxh3_64_intdigest(view[:table]))
        return info

    def keep(self, trajectory: int, last_step: int | None = None) -> None:
        """Drop states of other trajectories, and those after `last_step`."""
        for info in self.infos():
            if info.trajectory != trajectory or (last_step is not None and info.step > last_step):
                self._clear(info.index)

    def _info(self, index: int) -> SlotInfo | None:
        header = os.pread(self.fd, _HEADER.size, self._start(index)) if self._stride() else b""
        if len(header) < _HEADER.size:
            return None
        magic, state, ident, step, table, size, _ = _HEADER.unpack(header)
        if magic != _MAGIC or state != _COMPLETE:
            return None
        return SlotInfo(index, ident >> 32, ident & 0xFFFFFFFF, step, table, size)

    def _oldest(self) -> int:
        used = {info.index: info.step for info in self.infos()}
        return min(range(SLOTS), key=lambda index: used.get(index, -1))

    def _clear(self, index: int) -> None:
        if self._stride():
            os.pwrite(self.fd, bytes(_HEADER.size), self._start(index))

    def _seal(self, info: SlotInfo, digest: int) -> None:
        ident = info.rank << 32 | info.trajectory
        header = _HEADER.pack(_MAGIC, _COMPLETE, ident, info.step, info.table, info.size, digest)
        os.pwrite(self.fd, header, self._start(info.index))

    def _fill(self, at: int, table: bytes, views: Mapping[str, memoryview]) -> None:
        _write_all(self.fd, memoryview(table), at)
        at += len(table)
        for view in views.values():
            _write_all(self.fd, view, at)
            at += view.nbytes

    def _reserve(self, index: int, length: int) -> int:
        """Where the slot begins, after making room. A longer state than ever before takes all slots' places anew."""
        needed = PAGE + -(-length // PAGE) * PAGE
        if needed > self._stride():
            os.ftruncate(self.fd, 0)
            os.ftruncate(self.fd, (needed + SLACK) * SLOTS)
        return self._start(index)

    def _stride(self) -> int:
        return os.fstat(self.fd).st_size // SLOTS // PAGE * PAGE

    def _start(self, index: int) -> int:
        return index * self._stride()


def _write_all(fd: int, view: memoryview, at: int) -> None:
    """`pwrite` and not a store into a mapping: no memory left is then an error and not a SIGBUS."""
    done = 0
    while done < view.nbytes:
        done += os.pwrite(fd, view[done : done + (1 << 30)], at + done)
