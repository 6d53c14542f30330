"""The worker's side of the memory tier: publish a step, find it again after a restart."""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Callable, Mapping

from opt_runtime.memory.slots import Buffer, SlotFile

PARTNER_PATIENCE_S = 5.0
"""A partner that does not take a copy for so long is given up for this step; recovery may then redo more."""
NO_PARTNER = 2**63 - 1
_ACK = struct.Struct("<Q")


class Acks:
    """A page shared by agent and workers: for every local rank, the newest step that its partner holds."""

    def __init__(self, fd: int) -> None:
        self._page = mmap.mmap(fd, mmap.PAGESIZE)

    def __getitem__(self, local_rank: int) -> int:
        """The newest step that is safe elsewhere."""
        step: int = _ACK.unpack_from(self._page, local_rank * _ACK.size)[0]
        return step

    def __setitem__(self, local_rank: int, step: int) -> None:
        _ACK.pack_into(self._page, local_rank * _ACK.size, step)


class RankMemory:
    """One rank's states. All ranks of a gang publish the same steps, after the same step of the optimiser.

    A worker calls `settle` before its first collective after a step: no peer can then finish a step whose predecessor
    is not on two hosts, and no fault of one host costs more than one step. Forward and backward hide the wait.
    """

    def __init__(
        self, slots: SlotFile, acks: Acks, local_rank: int, rank: int, trajectory: int, tell: Callable[[int], None]
    ) -> None:
        self._slots, self._acks, self._local_rank = slots, acks, local_rank
        self._rank, self._trajectory, self._tell = rank, trajectory, tell
        self._last: int | None = None
        self._patient = True

    def publish(self, step: int, parts: Mapping[str, Buffer]) -> float:
        """Copy the parts as the state after `step`; return the seconds this took.

        Raises:
            OSError: Shared memory is full; training may go on, with the older states as they were.
        """
        began = time.monotonic()
        self.settle()
        self._slots.write(self._rank, self._trajectory, step, parts)
        self._last = step
        self._tell(step)
        return time.monotonic() - began

    def load(self, step: int) -> Mapping[str, memoryview]:
        """The parts of a step.

        Raises:
            KeyError: It is not there.
            opt_runtime.memory.slots.SlotDamaged: It is damaged.
        """
        info = self._slots.find(step, self._trajectory)
        if info is None or info.rank != self._rank:
            held = [(i.rank, i.step, i.trajectory) for i in self._slots.infos()]
            raise KeyError(f"rank {self._rank}, step {step}, trajectory {self._trajectory}; held are {held}")
        self._last = None
        return self._slots.read(info)

    def settle(self) -> None:
        """Wait until the last step is with the partner; one that failed once is not waited for until it is back."""
        began = time.monotonic()
        if self._last is None:
            return
        while self._patient and self._acks[self._local_rank] < self._last:
            self._patient = time.monotonic() - began < PARTNER_PATIENCE_S
            time.sleep(0.0005)
        self._patient = self._acks[self._local_rank] >= self._last
