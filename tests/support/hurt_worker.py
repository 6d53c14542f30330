"""The real trainer's entry, with workers that come to harm at chosen points of the memory tier, one an attempt.

Attempt 1: rank 1 is killed in the middle of a copy into shared memory. Attempt 2: bits flip in all that rank 0's host
holds of its own, and rank 0 dies. Attempt 3: rank 1 begins, finds no more shared memory, and is killed later.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Mapping

from opt_api.documents.exit_report import ExitReport
from opt_runtime.memory import slots
from opt_runtime.memory.rank import RankMemory
from opt_runtime.worker.context import WorkerContext
from support import paced_worker

TORN_AT, FLIPPED_AT, KILLED_AT = 20, 40, 75
LITTLE = 300 << 10
prepare = paced_worker.prepare


def run(context: WorkerContext) -> ExitReport:
    hurt = {(1, 1): tear, (2, 0): flip, (3, 1): starve}.get((context.order.attempt, context.order.rank))
    if hurt:
        hurt(context)
    return paced_worker.run(context)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def tear(_: WorkerContext) -> None:
    """The body of one state is written by half."""
    write, copy = slots.SlotFile.write, slots._copy

    def half(to: memoryview, source: memoryview) -> None:
        copy(to[: len(to) // 2], source[: len(to) // 2])
        if len(to) > 1000:
            die()

    def torn(self, unit, trajectory, step, parts):
        slots._copy = half if step == TORN_AT else copy
        return write(self, unit, trajectory, step, parts)

    slots.SlotFile.write = torn


def flip(context: WorkerContext) -> None:
    """Memory goes bad after it was written."""
    settle = RankMemory.settle

    def settled(self: RankMemory) -> float:
        waited = settle(self)
        if self._last is not None and self._last >= FLIPPED_AT:
            mine = self._slots[context.order.local_rank]
            for info in mine.infos():
                mine.body(info)[-1] ^= 0x10
            die()
        return waited

    RankMemory.settle = settled


def starve(context: WorkerContext) -> None:
    """As if the container's shared memory were a few hundred kilobytes: none is to be had once it has begun."""
    publish, settle = RankMemory.publish, RankMemory.settle

    def published(self: RankMemory, step: int, parts: Mapping[str, memoryview]) -> None:
        RankMemory.publish = publish
        os.ftruncate(self._slots[context.order.local_rank].fd, 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LITTLE, LITTLE))
        publish(self, step, parts)

    def settled(self: RankMemory) -> float:
        if context.step >= KILLED_AT:
            die()
        return settle(self)

    RankMemory.publish, RankMemory.settle = published, settled
