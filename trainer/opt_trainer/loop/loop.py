"""The loop over steps. Every rank makes the same decisions, since they rest on what was agreed in the step."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from opt_api.documents.plan import Plan
from opt_api.training.data import BatchRange
from opt_trainer.loop.agreement import Flags, Sums, agree
from opt_trainer.loop.evaluation import Evaluation
from opt_trainer.loop.memory import MemoryTier
from opt_trainer.loop.own_time import OwnTime
from opt_trainer.loop.running import (
    Measured,
    after_step,
    changed,
    due_changes,
    judge,
    loss_scale_of,
    running_of,
)
from opt_trainer.loop.saving import SaveClock
from opt_trainer.loop.step import TrainStep
from opt_trainer.recipe.changes import ChangeSource
from opt_trainer.recipe.schedule import learning_rate
from opt_trainer.state import Loader, LocalTensor, LoopState, Saver, StepRecord, Telemetry


class StopRequest(Protocol):
    """Whether this worker was asked to stop."""

    @property
    def asked(self) -> bool:
        """True from the first request on."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop works with.

    Attributes:
        train: Computes and updates.
        evaluation: Validation.
        loader: This rank's batches.
        tensors: What is saved.
        saver, telemetry, changes, stop: See their protocols.
        memory: The tier of checkpoints before the saver's.
        workers: Of the gang.
        rank: Of this worker.
    """

    train: TrainStep
    evaluation: Evaluation
    loader: Loader
    tensors: Sequence[LocalTensor]
    saver: Saver
    telemetry: Telemetry
    changes: ChangeSource
    stop: StopRequest
    memory: MemoryTier
    workers: int
    rank: int


@dataclass(frozen=True, slots=True)
class End:
    """How a loop ended.

    Attributes:
        state: After the last step.
        stopped: It was asked to, before the last step of the run.
    """

    state: LoopState
    stopped: bool


class Loop:
    """Trains from a state to the end of the run."""

    def __init__(self, plan: Plan, parts: Parts, state: LoopState) -> None:
        self._plan, self._parts, self.state = plan, parts, state
        saved = parts.memory.saved
        self._clock = SaveClock(plan.checkpointing, saved.step, time.time() - saved.at)
        self._stopping = False

    def run(self) -> End:
        """Step until the plan's last step or until all have heard that one was asked to stop; saves at the end.

        Raises:
            opt_trainer.errors.Diverged: See `judge`.
        """
        self._apply_overdue()
        self._parts.loader.seek(self.state.step + 1)
        while self.state.step < self._plan.recipe.total_steps and not self._stopping:
            self._step(self.state.step + 1)
        finished = self.state.step >= self._plan.recipe.total_steps
        if self.state.step > self._clock.last_step:
            self._save(last=finished)
        return End(self.state, stopped=not finished)

    def _apply_overdue(self) -> None:
        """Changes that are due take effect before the first step is computed."""
        parts = self._parts
        known = due_changes(parts.changes.after(self.state.applied_change), self.state.step + 1)
        sums = agree(parts.train.nothing(), Flags(changes=len(known)), alone=parts.workers == 1)
        self.state = changed(self.state, known[: sums.common_changes(parts.workers)])

    def _step(self, step: int) -> None:
        parts, began = self._parts, time.perf_counter()
        parts.telemetry.at_step(step)
        with parts.telemetry.section("data"):
            rows = parts.loader.next().rows
        with parts.telemetry.section("step"):
            known = due_changes(parts.changes.after(self.state.applied_change), step + 1)
            own_time = OwnTime(self._plan.layout.device)
            counts = not _skipped(running_of(self.state).skip_batches, step)
            found = self._compute(step, rows) if counts else parts.train.nothing()
            own = own_time.taken()
            flags = Flags(parts.stop.asked, parts.saver.busy, parts.rank == 0 and self._clock.due(step), len(known))
            parts.memory.settle()
            sums = agree(found, flags, alone=parts.workers == 1)
            measured = self._update(step, sums) if counts else None
        record = self._record(step, measured, time.perf_counter() - began, own, found if counts else None)
        self.state = after_step(self._plan, self.state, step, measured)
        parts.telemetry.step(replace(record, tokens=self.state.tokens))
        self._afterwards(step, sums)
        self.state = changed(self.state, known[: sums.common_changes(parts.workers)])
        parts.memory.after_step(self.state)

    def _compute(self, step: int, rows: torch.Tensor) -> torch.Tensor:
        return self._parts.train.compute(step, rows, loss_scale_of(self.state))

    def _update(self, step: int, sums: Sums) -> Measured:
        """Change the weights, unless the step overflowed; whatever still reads them for a save is waited for."""
        measured, values = judge(self._plan, self.state, step, sums), running_of(self.state)
        if measured.overflow:
            self._parts.train.drop()
            return measured
        self._parts.saver.before_update()
        rate = learning_rate(self._plan, step, values.learning_rate)
        self._parts.train.update(rate, measured.gradient_norm, values.clip, loss_scale_of(self.state))
        return measured

    def _afterwards(self, step: int, sums: Sums) -> None:
        """Hear of saves, validate and save, where it is time; then hear whether to stop."""
        for outcome in self._parts.saver.outcomes():
            self._parts.telemetry.outcome(outcome)
        if self._parts.evaluation.due(step):
            self._validate(step)
        self._stopping = sums.stop > 0
        wanted = sums.due > 0 and sums.busy == 0
        if (wanted or self._clock.must(step)) and not self._stopping and step < self._plan.recipe.total_steps:
            self._save(last=False)

    def _validate(self, step: int) -> None:
        with self._parts.telemetry.section("eval"):
            losses = self._parts.evaluation.run()
        self.state = replace(self.state, validation_loss=losses)
        self._parts.telemetry.validation(step, losses)

    def _save(self, *, last: bool) -> None:
        step, began = self.state.step, time.perf_counter()
        with self._parts.telemetry.section("save"):
            self._parts.saver.save(self._parts.tensors, self.state, export=self._clock.exports(step, last=last))
        stall = time.perf_counter() - began
        self._clock.saved(step, stall)
        self._parts.telemetry.saved(step, stall)

    def _record(
        self, step: int, measured: Measured | None, seconds: float, own: float | None, mine: torch.Tensor | None
    ) -> StepRecord:
        state = self.state
        gradient, parameter = (math.sqrt(square) for square in mine[2:].tolist()) if mine is not None else (None, None)
        found = measured or Measured(state.loss or 0.0, 0.0, 0.0, state.activation_norm or 0.0, overflow=False)
        return StepRecord(
            step=step,
            tokens=state.tokens,
            step_tokens=self._plan.tokens_per_step if measured else 0,
            loss=found.loss,
            learning_rate=learning_rate(self._plan, step, running_of(state).learning_rate),
            gradient_norm=found.gradient_norm,
            parameter_norm=found.parameter_norm,
            activation_norm=found.activation_norm,
            step_seconds=seconds,
            compute_seconds=own,
            loss_scale=state.scaler.scale if state.scaler else None,
            overflow=found.overflow,
            applied_change=state.applied_change,
            own_gradient_norm=gradient,
            own_parameter_norm=parameter,
        )


def _skipped(ranges: Sequence[BatchRange], step: int) -> bool:
    return any(entry.first <= step <= entry.last for entry in ranges)
