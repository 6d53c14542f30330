"""The trainer's telemetry with the runtime's name of the host, and with the faults that a rank shall do to itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from opt_api.documents.heartbeat import Heartbeat
from opt_api.training.resilience import Section
from opt_cli.worker_faults import WorkerFaults
from opt_trainer.checkpoint.job import Outcome
from opt_trainer.program.config import WorkerConfig
from opt_trainer.state import RunIdentity, StepRecord
from opt_trainer.telemetry.hub import open_telemetry


class WorkerTelemetry:
    """A `Telemetry` in front of the trainer's own.

    Args:
        config: Of the worker.
        identity: Of the worker.
        host: As the runtime calls it.
        send: Takes heartbeats.
        faults: What this rank shall do to itself; None for nothing.
        done: Steps done when it begins, as far as known.
    """

    def __init__(
        self,
        config: WorkerConfig,
        identity: RunIdentity,
        host: str,
        send: Callable[[Heartbeat], None],
        faults: WorkerFaults | None = None,
        done: int = 0,
    ) -> None:
        self._host, self._send, self._faults = host, send, faults
        self._hub = open_telemetry(config.plan, identity, config.work / "telemetry", heartbeat=self._beat, done=done)

    def section(self, name: Section) -> AbstractContextManager[None]:
        """See `Telemetry.section`."""
        return self._hub.section(name) if self._faults is None else self._faulty(name, self._faults)

    @contextmanager
    def _faulty(self, name: Section, faults: WorkerFaults) -> Iterator[None]:
        with self._hub.section(name):
            faults.enter(name)
            yield

    def at_step(self, step: int) -> None:
        """See `Telemetry.at_step`."""
        self._hub.at_step(step)
        if self._faults is not None:
            self._faults.at_step(step)

    def step(self, record: StepRecord) -> None:
        """See `Telemetry.step`."""
        self._hub.step(record)

    def validation(self, step: int, losses: Mapping[str, float]) -> None:
        """See `Telemetry.validation`."""
        self._hub.validation(step, losses)

    def saved(self, step: int, stall_seconds: float) -> None:
        """See `Telemetry.saved`."""
        self._hub.saved(step, stall_seconds)

    def outcome(self, outcome: Outcome) -> None:
        """See `Telemetry.outcome`."""
        self._hub.outcome(outcome)

    def progress(self, done: int, total: int) -> None:
        """See `Telemetry.progress`."""
        self._hub.progress(done, total)

    def close(self) -> None:
        """See `Telemetry.close`."""
        self._hub.close()

    def _beat(self, found: Heartbeat) -> None:
        self._send(found.model_copy(update={"host": self._host}))
