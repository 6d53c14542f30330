"""Copies tensors into the staging memory while the trainer computes.

Between two optimiser steps the weights and moments are only read, so the copy runs during the next forward and backward
and the trainer waits for it just before it writes again (the lazy copy of DataStates-LLM, arXiv 2601.16956).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from opt_trainer.checkpoint.errors import SaveFailed
from opt_trainer.checkpoint.image import Image
from opt_trainer.checkpoint.staging import Staging
from opt_trainer.state import LocalTensor


class Copier:
    """One background copy at a time."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-copy")
        self._running: Future[None] | None = None

    def start(
        self,
        image: Image,
        mine: Sequence[LocalTensor],
        done: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        """Begin to copy `mine` (in the image's order).

        Args:
            image: Where each goes.
            mine: What is copied; must stay unchanged until `join` has returned.
            done: Called in the background when the last byte is there.
            failed: Called in the background, with the reason, when there is no memory to copy to.
        """
        device = _Device(mine)

        def work() -> None:
            try:
                self._staging.reserve(image.size)
                device.copy(self._staging, image, mine)
            except SaveFailed as problem:
                failed(str(problem))
            else:
                done()

        self._running = self._pool.submit(work)

    def join(self) -> float:
        """Wait until the tensors may change; return the seconds waited."""
        if self._running is None:
            return 0.0
        began = time.perf_counter()
        running, self._running = self._running, None
        running.result()
        return time.perf_counter() - began

    def prepare(self, size: int) -> None:
        """Allocate the memory in the background, ahead of the first save."""
        self._pool.submit(self._staging.reserve, size)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True)


def copy_into(staging: Staging, image: Image, mine: Sequence[LocalTensor]) -> None:
    """Write header and tensors."""
    staging.write(image.header)
    for piece, t in zip(image.pieces, mine, strict=True):
        staging.copy_in(t.tensor, piece.start)


class _Device:
    """On CUDA the copy runs on a stream of its own, behind the work that was queued when the save began."""

    def __init__(self, mine: Sequence[LocalTensor]) -> None:
        device = next((t.tensor.device for t in mine if t.tensor.is_cuda), None)
        self._stream = torch.cuda.Stream(device) if device is not None else None  # type: ignore[no-untyped-call]
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def copy(self, staging: Staging, image: Image, mine: Sequence[LocalTensor]) -> None:
        if self._stream is None:
            copy_into(staging, image, mine)
            return
        with torch.cuda.stream(self._stream):
            copy_into(staging, image, mine)
        self._stream.synchronize()
