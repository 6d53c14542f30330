"""Faults that a worker does to itself when it was told to, because nobody else can reach what breaks.

Found in the folder that `FAULTS` names, one file each; a fault that was done is renamed, so that it happens once. Only
`spoil batch` happens every time its step is computed, as bad data would.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from opt_api.documents.faults import FaultName, PlannedFault
from opt_api.training.resilience import Section
from opt_model.opt import OPT

FLIPPED_BIT = 25
"""Of a float32: the third of the exponent from below, so that a weight grows or shrinks by 16."""
FOR_EVER_S = 1e6


class WorkerFaults:
    """What one rank shall do to itself.

    Args:
        folder: Where the faults lie.
        rank: Of this worker.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._waiting = {path: fault for path, fault in _read(folder) if _is_mine(fault, rank)}
        self._hanging: Section | None = None
        self._bad_batch: RemovableHandle | None = None

    def at_step(self, step: int) -> None:
        """Step `step` begins; a bad batch that was skipped spoils no other."""
        if self._bad_batch is not None:
            self._bad_batch.remove()
        for path, fault in list(self._waiting.items()):
            if fault.fault == "spoil batch":
                if step == fault.step:
                    self._bad_batch = spoil_gradient()
            elif step >= fault.step:
                del self._waiting[path]
                path.rename(path.with_suffix(".done"))
                self._hanging = HANGS.get(fault.fault, self._hanging)
                DO.get(fault.fault, _nothing)()

    def enter(self, section: Section) -> None:
        """A section begins."""
        if section == self._hanging:
            time.sleep(FOR_EVER_S)


def spoil_gradient() -> RemovableHandle:
    """The next gradient that reaches the last block is not a number, however its weights are divided."""
    return on_next_pass(lambda model: _once(model.layers[-1]))


def flip_weight() -> None:
    """One bit of one weight is another."""
    on_next_pass(lambda model: _flip(_last_matrix(model)))


def be_slow() -> None:
    """From now on every pass costs this rank twice its processor time, as on a device whose clock is held back."""
    ended = time.thread_time()

    def hook(module: nn.Module, _: object) -> None:
        nonlocal ended
        if isinstance(module, OPT) and module.training:
            until = 2 * time.thread_time() - ended
            while time.thread_time() < until:
                pass
            ended = time.thread_time()

    register_module_forward_pre_hook(hook)


def on_next_pass(act: Callable[[OPT], None]) -> RemovableHandle:
    """Have something done to the model when it is next called in training; the handle takes that back."""

    def hook(module: nn.Module, _: object) -> None:
        if isinstance(module, OPT) and module.training:
            handle.remove()
            act(module)

    handle = register_module_forward_pre_hook(hook)
    return handle


def _once(block: nn.Module) -> None:
    """Sharded weights are no leaves of the pass: their hooks would never be called. A block's output always has one."""

    def spoil(gradient: Tensor) -> Tensor:
        return torch.full_like(gradient, float("nan"))

    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        handle.remove()
        output.register_hook(spoil)  # type: ignore[no-untyped-call]

    handle = block.register_forward_hook(hook)


def _flip(weight: nn.Parameter) -> None:
    held = weight.detach()
    local = held.to_local() if hasattr(held, "to_local") else held
    bits = local.view(torch.int32) if local.element_size() == 4 else local.view(torch.int16)
    bits.view(-1)[0] ^= 1 << (FLIPPED_BIT if local.element_size() == 4 else FLIPPED_BIT - 16)


def _last_matrix(model: OPT) -> nn.Parameter:
    return [parameter for parameter in model.parameters() if parameter.ndim == 2][-1]


def _nothing() -> None:
    """A hang: done when its section begins."""


DO: dict[FaultName, Callable[[], object]] = {
    "spoil gradient of rank": spoil_gradient,
    "flip weight of rank": flip_weight,
    "slow rank": be_slow,
}
HANGS: dict[FaultName, Section] = {"hang rank": "step", "hang save of rank": "save", "hang eval of rank": "eval"}


def _read(folder: Path) -> list[tuple[Path, PlannedFault]]:
    return [
        (path, PlannedFault.model_validate(json.loads(path.read_bytes()))) for path in sorted(folder.glob("*.json"))
    ]


def _is_mine(fault: PlannedFault, rank: int) -> bool:
    """A spoilt batch is met by whoever is first."""
    return rank == (int(fault.target) if fault.target else 0)
