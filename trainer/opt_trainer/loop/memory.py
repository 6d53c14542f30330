"""The first tier of checkpoints: the newest steps, in memory that outlives this process and belongs to someone else.

Who keeps it is not known here (`Memory` is all that is asked of it). What is kept: this worker's tensors as they are,
and beside them the loop's own state with what is known of the last durable save, so that a run that is restored from
memory again and again still saves when a save is due.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from pydantic import TypeAdapter

from opt_trainer.checkpoint.job import Outcome
from opt_trainer.state import LocalTensor, LoopState

LOOP = "loop"
"""Part with everything that is no tensor."""


class Memory(Protocol):
    """Keeps the newest states of this rank."""

    def publish(self, step: int, parts: Mapping[str, memoryview]) -> None:
        """Begin to keep the parts as the state after `step`; they must not change until `settle` has returned."""

    def settle(self) -> float:
        """Wait until the last state that was published is safe; return the seconds waited."""

    def load(self, step: int) -> Mapping[str, memoryview]:
        """The parts of a step."""


class Durable(Protocol):
    """What is asked of a `Saver` here."""

    @property
    def busy(self) -> bool:
        """Whether a save is not durable yet."""

    @property
    def durable(self) -> Outcome | None:
        """Outcome of the newest save that became durable."""


@dataclass(frozen=True, slots=True)
class LastSave:
    """The newest durable checkpoint, as far as this run of attempts knows.

    Attributes:
        step: Its step; that of the start where nothing was saved yet.
        at: When it was found durable, or the start, in seconds since the epoch.
        manifest: Digest of its manifest, for the lineage of later ones; None where there is none.
    """

    step: int
    at: float
    manifest: str | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept beside the tensors."""

    state: LoopState
    saved: LastSave


_KEPT: TypeAdapter[Kept] = TypeAdapter(Kept)


class MemoryTier:
    """Publishes after the steps that are due.

    Args:
        memory: Who keeps it; None for nobody.
        every: Steps between two states.
        tensors: Of this worker.
        saved: As it was when the attempt began.
        saver: Who saves.
    """

    def __init__(
        self, memory: Memory | None, every: int, tensors: Sequence[LocalTensor], saved: LastSave, saver: Durable
    ) -> None:
        self._memory, self._every, self.saved, self._saver = memory, every, saved, saver
        self._tensors = {t.name: t.tensor for t in tensors if t.tensor.numel()}
        self._mirrors = {name: torch.empty_like(t, device="cpu", pin_memory=True) for name, t in self._on_cuda()}

    def settle(self) -> None:
        """Wait until the state published last is safe; call it before the collective that all updates wait for."""
        if self._memory is not None:
            self._memory.settle()

    def after_step(self, state: LoopState) -> None:
        """Publish the state, if it is due."""
        if self._memory is None or state.step % self._every:
            return
        self._look_at_saves()
        views = {name: _bytes_of(tensor) for name, tensor in self._host_tensors().items()}
        self._memory.publish(state.step, {LOOP: memoryview(_KEPT.dump_json(Kept(state, self.saved))), **views})

    def _look_at_saves(self) -> None:
        durable = self._saver.durable
        if durable is not None and durable.step != self.saved.step and not self._saver.busy:
            self.saved = LastSave(durable.step, time.time(), durable.manifest or None)

    def _host_tensors(self) -> Mapping[str, torch.Tensor]:
        """Tensors in main memory; those of a CUDA device are brought there now, all in one go."""
        if not self._mirrors:
            return self._tensors
        for name, tensor in self._on_cuda():
            self._mirrors[name].copy_(tensor, non_blocking=True)
        torch.cuda.synchronize()
        return {**self._tensors, **self._mirrors}

    def _on_cuda(self) -> list[tuple[str, torch.Tensor]]:
        return [(name, tensor) for name, tensor in self._tensors.items() if tensor.is_cuda]


def fill(memory: Memory, step: int, tensors: Sequence[LocalTensor]) -> Kept:
    """Load a step into the tensors, in place.

    Raises:
        KeyError: The step, or one of the tensors, is not there.
    """
    parts = memory.load(step)
    with torch.no_grad():
        for t in tensors:
            if t.tensor.numel():
                found = torch.frombuffer(parts[t.name], dtype=t.tensor.dtype)
                t.tensor.copy_(found.view(t.tensor.shape))
    return _KEPT.validate_json(bytes(parts[LOOP]))


def first_save(state: LoopState, manifest: str | None) -> LastSave:
    """For an attempt that begins from the store, or from nothing."""
    return LastSave(state.step, time.time(), manifest)


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data
