"""All telemetry of one rank, behind the few calls of the loop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TextIO

import psutil
import torch

from opt_api.documents.plan import Plan
from opt_api.training.resilience import Section
from opt_trainer.checkpoint.job import Outcome
from opt_trainer.state import RunIdentity, StepRecord
from opt_trainer.telemetry.heartbeats import Pulse, Send
from opt_trainer.telemetry.metrics import Costs, costs_of, metrics_of
from opt_trainer.telemetry.sinks import JsonLines, Prometheus, Sink, TensorBoard
from opt_trainer.telemetry.terminal import LiveLine, LogLines


class TelemetryHub:
    """A `Telemetry`; see there."""

    def __init__(self, costs: Costs, pulse: Pulse, sinks: Sequence[Sink], memory: Callable[[], int]) -> None:
        self._costs, self._pulse, self._sinks, self._memory = costs, pulse, sinks, memory

    def section(self, name: Section) -> AbstractContextManager[None]:
        """See `Telemetry.section`."""
        return self._pulse.timer.section(name)

    def at_step(self, step: int) -> None:
        """See `Telemetry.at_step`."""
        self._pulse.at_step(step)

    def step(self, record: StepRecord) -> None:
        """See `Telemetry.step`."""
        metrics = metrics_of(record, self._costs, self._pulse.timer.take(), self._memory(), time.time())
        self._pulse.note(metrics)
        for sink in self._sinks:
            sink.step(metrics)

    def validation(self, step: int, losses: Mapping[str, float]) -> None:
        """See `Telemetry.validation`."""
        for sink in self._sinks:
            sink.validation(step, losses)

    def saved(self, step: int, stall_seconds: float) -> None:
        """See `Telemetry.saved`."""
        for sink in self._sinks:
            sink.saved(step, stall_seconds)

    def outcome(self, outcome: Outcome) -> None:
        """See `Telemetry.outcome`."""
        for sink in self._sinks:
            sink.outcome(outcome)

    def progress(self, done: int, total: int) -> None:
        """See `Telemetry.progress`."""
        self._pulse.progress(done, total)

    def close(self) -> None:
        """See `Telemetry.close`."""
        self._pulse.close()
        for sink in self._sinks:
            sink.close()


def open_telemetry(
    plan: Plan,
    identity: RunIdentity,
    folder: Path,
    *,
    heartbeat: Send | None = None,
    done: int = 0,
    metrics_port: int | None = None,
    metrics_address: str = "0.0.0.0",  # noqa: S104 - in a pod, whoever scrapes comes from outside
    stream: TextIO | None = None,
) -> TelemetryHub:
    """The telemetry of one rank.

    Every rank writes `metrics-<rank>.jsonl`; rank 0 also draws curves (`tensorboard/`) and speaks to the terminal.

    Args:
        plan: What is trained.
        identity: Who trains.
        folder: For files.
        heartbeat: Takes heartbeats; must not wait. None to send none.
        done: Steps done when it begins, as far as known.
        metrics_port: Of this rank's Prometheus endpoint; None for no endpoint.
        metrics_address: That the endpoint listens on.
        stream: Terminal or log; standard error when absent.
    """
    sinks: list[Sink] = [JsonLines(folder, identity)]
    if metrics_port is not None:
        sinks.append(Prometheus(identity, metrics_port, metrics_address))
    if identity.rank == 0:
        out = stream or sys.stderr
        line = LiveLine if out.isatty() else LogLines
        sinks += [TensorBoard(folder / "tensorboard"), line(identity, plan.recipe.total_steps, out)]
    pulse = Pulse(identity, heartbeat or _nowhere, done)
    return TelemetryHub(costs_of(plan, torch.get_num_threads()), pulse, sinks, _memory_of(plan.layout.device))


def _memory_of(device: str) -> Callable[[], int]:
    if device == "cuda":
        return torch.cuda.max_memory_allocated
    process = psutil.Process()
    return lambda: int(process.memory_info().rss)


def _nowhere(_: object) -> None:
    """Where heartbeats go that nobody listens to."""
