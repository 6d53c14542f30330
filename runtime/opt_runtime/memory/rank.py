"""The worker's side of the memory tier: publish a step, find it again after a restart."""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from opt_runtime.core.patience import PARTNER_PATIENCE_S
from opt_runtime.memory.slots import Buffer, SlotFile, SlotInfo, shared

NO_PARTNER = 2**63 - 1
LOOP = "loop"
"""Part that every share has: what is no tensor."""
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


@dataclass(frozen=True, slots=True)
class Tell:
    """What the worker tells its agent.

    Attributes:
        copied: A step is whole in the slots.
        full: There is no memory for it; with the reason.
    """

    copied: Callable[[int], None]
    full: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Whose:
    """Which states a rank keeps.

    Attributes:
        local_rank: Its number on the host.
        unit: What it keeps.
        trajectory: Course of the run.
        beside: Local ranks that keep the shares of its piece, itself among them.
    """

    local_rank: int
    unit: int
    trajectory: int
    beside: tuple[int, ...]


class RankMemory:
    """One rank's states. All ranks of a gang publish the same steps, after the same step of the optimiser.

    `publish` only begins to copy; the parts must not change until `settle` has returned. A worker calls that before the
    collective that all must enter before any may update: no rank can then finish a step whose predecessor is not whole,
    on two hosts, and no fault costs more than one step. Forward and backward hide the wait.

    Args:
        slots: Of all local ranks.
        acks: The page.
        whose: Which rank this is.
        tell: The agent's ear.
    """

    def __init__(self, slots: Sequence[SlotFile], acks: Acks, whose: Whose, tell: Tell) -> None:
        self._slots, self._acks, self._whose, self._tell = slots, acks, whose, tell
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="memory")
        self._copying: Future[None] | None = None
        self._last: int | None = None
        self._patient = True
        self._full = False

    def publish(self, step: int, parts: Mapping[str, Buffer]) -> None:
        """Begin to copy the parts as the state after `step`.

        When shared memory is full the agent is told, what was there is dropped, and this worker publishes no more:
        recovery then goes through the store.
        """
        self.settle()
        if not self._full:
            self._copying = self._pool.submit(self._copy, step, parts)

    def settle(self) -> float:
        """Wait until the last step is copied, and with the partner; return the seconds waited.

        A partner that failed once is not waited for until it is back.
        """
        began = time.monotonic()
        if self._copying is not None:
            copying, self._copying = self._copying, None
            copying.result()
        if self._last is not None:
            self._await_partner(self._last)
        return time.monotonic() - began

    def load(self, step: int) -> Mapping[str, memoryview]:
        """The parts of a step, as views that hold until the second `publish` from now.

        Raises:
            KeyError: It is not there.
        """
        self._last = None
        parts: dict[str, memoryview] = {}
        for share, local_rank in enumerate(self._whose.beside):
            slots = self._slots[local_rank]
            parts |= slots.read(self._find(slots, self._unit(share), step))
        return parts

    def _unit(self, share: int) -> int:
        """Unit of a share of this rank's piece: shares of one piece are as far apart as local ranks that keep them."""
        beside = self._whose.beside
        return self._whose.unit + beside[share] - self._whose.local_rank

    def _find(self, slots: SlotFile, unit: int, step: int) -> SlotInfo:
        info = slots.find(unit, self._whose.trajectory, step)
        if info is None:
            held = [(i.unit, i.step, i.trajectory) for i in slots.infos()]
            raise KeyError(f"unit {unit}, step {step}, trajectory {self._whose.trajectory}; held are {held}")
        return info

    def _copy(self, step: int, parts: Mapping[str, Buffer]) -> None:
        whose = self._whose
        tensors = {name: part for name, part in parts.items() if name != LOOP}
        mine = shared(tensors, whose.beside.index(whose.local_rank), len(whose.beside))
        kept = {LOOP: parts[LOOP]} if LOOP in parts else {}
        kept |= {name: parts[name] for name in mine}
        slots = self._slots[whose.local_rank]
        try:
            slots.write(whose.unit, whose.trajectory, step, kept)
        except OSError as fault:
            slots.drop_all()
            self._full, self._last = True, None
            self._tell.full(f"the state of step {step} has no place in memory: {fault}")
        else:
            self._last = step
            self._tell.copied(step)

    def _await_partner(self, step: int) -> None:
        began, mine = time.monotonic(), self._whose.local_rank
        while self._patient and self._acks[mine] < step:
            self._patient = time.monotonic() - began < PARTNER_PATIENCE_S
            time.sleep(0.0005)
        self._patient = self._acks[mine] >= step
