"""The trainer's telemetry with the runtime's idea of a step: heartbeats say how many are done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from opt_api.documents.heartbeat import Heartbeat
from opt_api.training.resilience import Section
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
    """

    def __init__(
        self, config: WorkerConfig, identity: RunIdentity, host: str, send: Callable[[Heartbeat], None]
    ) -> None:
        self._done, self._host, self._send = 0, host, send
        self._hub = open_telemetry(config.plan, identity, config.work / "telemetry", heartbeat=self._beat)

    def section(self, name: Section) -> AbstractContextManager[None]:
        """See `Telemetry.section`."""
        return self._hub.section(name)

    def at_step(self, step: int) -> None:
        """See `Telemetry.at_step`."""
        self._done = step - 1
        self._hub.at_step(step)

    def step(self, record: StepRecord) -> None:
        """See `Telemetry.step`."""
        self._done = record.step
        self._hub.step(record)

    def validation(self, step: int, losses: Mapping[str, float]) -> None:
        """See `Telemetry.validation`."""
        self._hub.validation(step, losses)

    def saved(self, step: int, stall_seconds: float) -> None:
        """See `Telemetry.saved`."""
        self._hub.saved(step, stall_seconds)

    def close(self) -> None:
        """See `Telemetry.close`."""
        self._hub.close()

    def _beat(self, found: Heartbeat) -> None:
        self._send(found.model_copy(update={"host": self._host, "step": self._done}))
