"""One host's own load: matrix products that check themselves, copies in memory, a file on the scratch disk."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch

SIZE = {"cpu": 512, "cuda": 4096}
COPY_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}
FILE_BYTES = 32 << 20


class WrongResult(ArithmeticError):  # noqa: N818 - caught by what happened
    """The same product of the same numbers came out otherwise: the machine computes wrongly."""


def device() -> str:
    """What the host computes with."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def matmul(seconds: float) -> float:
    """FLOP/s of the best round; every round must give the first one's bits.

    Raises:
        WrongResult: One did not.
    """
    kind = device()
    size = SIZE[kind]
    generator = torch.Generator(kind).manual_seed(1)
    a, b = (torch.randn(size, size, generator=generator, device=kind) for _ in range(2))
    first = a @ b

    def work() -> None:
        if not torch.equal(a @ b, first):
            raise WrongResult(f"a product of two {size} x {size} matrices on {kind} changed between two rounds")

    return 2.0 * size**3 / best_round(work, seconds)


def memory_copy(seconds: float) -> float:
    """Bytes copied per second in the best round."""
    kind = device()
    source = torch.ones(COPY_BYTES[kind], dtype=torch.uint8, device=kind)
    target = torch.empty_like(source)
    return COPY_BYTES[kind] / best_round(lambda: target.copy_(source), seconds)


def disk_write(folder: Path, seconds: float) -> float:
    """Bytes written and synced per second in the best round.

    Raises:
        OSError: The disk is full, or cannot be written to.
    """
    path, data = folder / ".check", os.urandom(1 << 20) * (FILE_BYTES >> 20)

    def work() -> None:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    try:
        return FILE_BYTES / best_round(work, seconds)
    finally:
        path.unlink(missing_ok=True)


def disk_free(folder: Path) -> int:
    """Bytes that can still be written there."""
    return shutil.disk_usage(folder).free


def best_round(work: Callable[[], object], seconds: float) -> float:
    """Seconds of the quickest round of those that fit: what the machine can do when nothing disturbs it."""
    end, best = time.monotonic() + seconds, float("inf")
    while True:
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
        if time.monotonic() >= end:
            return best
