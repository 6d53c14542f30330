"""Where a step's numbers go: a JSONL file per rank, TensorBoard, Prometheus."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from opt_trainer.checkpoint.job import Outcome
from opt_trainer.state import RunIdentity
from opt_trainer.telemetry.metrics import StepMetrics
from opt_trainer.telemetry.tfevents import EventFile


class Sink(Protocol):
    """One place that numbers go to."""

    def step(self, metrics: StepMetrics) -> None:
        """A step is done."""

    def validation(self, step: int, losses: Mapping[str, float]) -> None:
        """Validation loss per source, in nats per token."""

    def saved(self, step: int, stall_seconds: float) -> None:
        """A save began."""

    def outcome(self, outcome: Outcome) -> None:
        """A save came further, or failed."""

    def close(self) -> None:
        """Flush and close."""


class JsonLines:
    """One JSON document a line, each with run, attempt, rank and step; appended to, attempt after attempt."""

    def __init__(self, folder: Path, identity: RunIdentity) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._who = {"run": identity.run, "attempt": identity.attempt, "rank": identity.rank}
        self._file = (folder / f"metrics-{identity.rank:06d}.jsonl").open("a", buffering=1)

    def step(self, metrics: StepMetrics) -> None:
        """See `Sink`."""
        self._line("step", **metrics.finite())

    def validation(self, step: int, losses: Mapping[str, float]) -> None:
        """See `Sink`."""
        self._line("validation", step=step, epoch_seconds=time.time(), losses=dict(losses))

    def saved(self, step: int, stall_seconds: float) -> None:
        """See `Sink`."""
        self._line("saved", step=step, epoch_seconds=time.time(), stall_seconds=stall_seconds)

    def outcome(self, outcome: Outcome) -> None:
        """See `Sink`."""
        self._line("save", epoch_seconds=time.time(), **outcome.model_dump())

    def close(self) -> None:
        """See `Sink`."""
        self._file.close()

    def _line(self, kind: str, **values: object) -> None:
        self._file.write(json.dumps({"kind": kind, **self._who, **values}, allow_nan=False) + "\n")


class TensorBoard:
    """Curves in an event file."""

    def __init__(self, folder: Path) -> None:
        self._events = EventFile(folder)

    def step(self, metrics: StepMetrics) -> None:
        """See `Sink`."""
        curves = {f"train/{name}": value for name, value in curves_of(metrics).items()}
        self._events.scalars(metrics.step, curves | {f"seconds/{k}": v for k, v in metrics.seconds.items()})

    def validation(self, step: int, losses: Mapping[str, float]) -> None:
        """See `Sink`."""
        self._events.scalars(step, {f"validation/{source}": loss for source, loss in losses.items()})

    def saved(self, step: int, stall_seconds: float) -> None:
        """See `Sink`."""
        self._events.scalars(step, {"save/stall_seconds": stall_seconds})

    def outcome(self, outcome: Outcome) -> None:
        """See `Sink`."""
        if outcome.stage == "Complete":
            self._events.scalars(outcome.step, {"save/durable_seconds": outcome.seconds})

    def close(self) -> None:
        """See `Sink`."""
        self._events.close()


class Prometheus:
    """An HTTP endpoint of this rank, `/metrics`, on all addresses (a pod's own network) or on the one given."""

    def __init__(self, identity: RunIdentity, port: int, address: str) -> None:
        self._registry = CollectorRegistry()
        self._labels = {"run": identity.run, "attempt": str(identity.attempt), "rank": str(identity.rank)}
        self._gauges: dict[str, Gauge] = {}
        self._tokens = Counter("opt_tokens", "Tokens trained on by the gang", [*self._labels], registry=self._registry)
        self._sections = Counter(
            "opt_section_seconds", "Seconds in each section", [*self._labels, "section"], registry=self._registry
        )
        self._validation = Gauge(
            "opt_validation_loss", "Nats per token", [*self._labels, "source"], registry=self._registry
        )
        self._failed = Counter("opt_saves_failed", "Saves that failed", [*self._labels], registry=self._registry)
        self._last_tokens = 0
        self._server, self._thread = start_http_server(port, addr=address, registry=self._registry)

    @property
    def port(self) -> int:
        """Port in use; chosen by the system if 0 was asked for."""
        return self._server.server_port

    def step(self, metrics: StepMetrics) -> None:
        """See `Sink`."""
        for name, value in {**curves_of(metrics), "step": metrics.step}.items():
            self._gauge(name).labels(**self._labels).set(value)
        self._tokens.labels(**self._labels).inc(max(0, metrics.tokens - self._last_tokens))
        self._last_tokens = metrics.tokens
        for section, seconds in metrics.seconds.items():
            self._sections.labels(**self._labels, section=section).inc(max(0.0, seconds))

    def validation(self, step: int, losses: Mapping[str, float]) -> None:
        """See `Sink`."""
        for source, loss in losses.items():
            self._validation.labels(**self._labels, source=source).set(loss)

    def saved(self, step: int, stall_seconds: float) -> None:
        """See `Sink`."""
        self._gauge("save_stall_seconds").labels(**self._labels).set(stall_seconds)
        self._gauge("saved_step").labels(**self._labels).set(step)

    def outcome(self, outcome: Outcome) -> None:
        """See `Sink`."""
        if outcome.stage == "Complete":
            self._gauge("durable_step").labels(**self._labels).set(outcome.step)
            self._gauge("save_durable_seconds").labels(**self._labels).set(outcome.seconds)
        if outcome.stage == "Failed":
            self._failed.labels(**self._labels).inc()

    def close(self) -> None:
        """See `Sink`."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _gauge(self, name: str) -> Gauge:
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"opt_{name}", name.replace("_", " "), [*self._labels], registry=self._registry)
        return self._gauges[name]


_CURVES = (
    "loss", "learning_rate", "gradient_norm", "parameter_norm", "activation_norm", "loss_scale", "tokens_per_second",
    "model_flops_utilisation", "hardware_flops_utilisation", "step_seconds", "compute_seconds", "memory_bytes",
)  # fmt: skip


def curves_of(metrics: StepMetrics) -> dict[str, float]:
    """The numbers that are drawn over time; a number that does not exist for this run is left out."""
    values = ((name, getattr(metrics, name)) for name in _CURVES)
    return {name: float(value) for name, value in values if value is not None}
