"""What a person sees: one live line on a terminal, JSON lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TextIO

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from opt_trainer.checkpoint.job import Outcome
from opt_trainer.state import RunIdentity
from opt_trainer.telemetry.metrics import StepMetrics

_STAGES = {"Complete": "the checkpoint is durable", "Exported": "its export is written"}


class Eta:
    """Time left, from an exponentially weighted mean of the step time with a span of 20 steps."""

    _SHARE = 2 / (20 + 1)

    def __init__(self, total_steps: int) -> None:
        self._total = total_steps
        self._mean: float | None = None

    def after(self, step: int, step_seconds: float) -> float:
        """Seconds left after this step."""
        known = step_seconds if self._mean is None else self._mean
        self._mean = known + self._SHARE * (step_seconds - known)
        return max(0, self._total - step) * self._mean


class LiveLine:
    """A progress bar with the newest numbers; what else is said scrolls by above it."""

    def __init__(self, identity: RunIdentity, total_steps: int, stream: TextIO) -> None:
        self._eta = Eta(total_steps)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=Console(file=stream, highlight=False),
        )
        self._task = self._progress.add_task(f"{identity.run} #{identity.attempt}", total=total_steps, numbers="")
        self._progress.start()

    def step(self, metrics: StepMetrics) -> None:
        """See `Sink`."""
        left = timedelta(seconds=round(self._eta.after(metrics.step, metrics.step_seconds)))
        use = metrics.model_flops_utilisation
        numbers = (
            f"loss {metrics.loss:.4f}  lr {metrics.learning_rate:.2e}  |g| {metrics.gradient_norm:.2f}  "
            f"{metrics.tokens_per_second:,.0f} tok/s  {'' if use is None else f'MFU {use:.1%}  '}left {left}"
        )
        self._progress.update(self._task, completed=metrics.step, numbers=numbers)

    def validation(self, step: int, losses: Mapping[str, float]) -> None:
        """See `Sink`."""
        words = "  ".join(f"{source} {loss:.4f}" for source, loss in losses.items())
        self._progress.console.print(f"step {step}: validation loss  {words}")

    def saved(self, step: int, stall_seconds: float) -> None:
        """See `Sink`."""
        self._progress.console.print(f"step {step}: saving, training stood still for {stall_seconds * 1e3:.0f} ms")

    def outcome(self, outcome: Outcome) -> None:
        """See `Sink`."""
        words = outcome.message or f"step {outcome.step}: {_STAGES[outcome.stage]} after {outcome.seconds:.1f} s"
        if outcome.stage != "Stored":
            self._progress.console.print(words)

    def close(self) -> None:
        """See `Sink`."""
        self._progress.stop()


class LogLines:
    """Structured lines with run, attempt, rank and step; at most one line of a step each `interval_s`."""

    def __init__(self, identity: RunIdentity, total_steps: int, stream: TextIO, interval_s: float = 1.0) -> None:
        self._log = structlog.wrap_logger(
            structlog.PrintLogger(stream),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(),
            ],
        ).bind(run=identity.run, attempt=identity.attempt, rank=identity.rank)
        self._eta, self._interval, self._next = Eta(total_steps), interval_s, 0.0

    def step(self, metrics: StepMetrics) -> None:
        """See `Sink`."""
        left = self._eta.after(metrics.step, metrics.step_seconds)
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._interval
        given = metrics.finite()
        names = ("step", "tokens", "loss", "learning_rate", "gradient_norm", "tokens_per_second")
        self._log.info("step", **{name: given[name] for name in names}, eta_seconds=round(left))

    def validation(self, step: int, losses: Mapping[str, float]) -> None:
        """See `Sink`."""
        self._log.info("validation", step=step, **{f"loss_{source}": loss for source, loss in losses.items()})

    def saved(self, step: int, stall_seconds: float) -> None:
        """See `Sink`."""
        self._log.info("saving", step=step, stall_seconds=stall_seconds)

    def outcome(self, outcome: Outcome) -> None:
        """See `Sink`."""
        say = self._log.info if not outcome.message else self._log.warning
        say("save", **outcome.model_dump(include={"step", "stage", "seconds", "message"}))

    def close(self) -> None:
        """See `Sink`."""
