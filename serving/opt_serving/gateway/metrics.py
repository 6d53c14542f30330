"""What a gateway counts."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """All metrics of one gateway."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        one = {"registry": self.registry}
        self._model = model
        self._flight = Gauge("opt_gateway_requests_in_flight", "Requests at replicas.", ["model_name"], **one)
        self._held = Gauge("opt_gateway_requests_held", "Requests that wait for a replica.", ["model_name"], **one)
        self._answered = Counter(
            "opt_gateway_requests", "Requests answered, by revision and status.",
            ["model_name", "revision", "status"], **one,
        )  # fmt: skip
        words = ["model_name"]
        self._retried = Counter("opt_gateway_retries", "Requests tried at another replica.", words, **one).labels(model)
        self._broken = Counter("opt_gateway_broken", "Answers cut off by a lost replica.", words, **one).labels(model)
        self._gone = Counter("opt_gateway_clients_gone", "Clients that did not wait.", words, **one).labels(model)

    def watch(self, in_flight: Callable[[], float], held: Callable[[], float]) -> None:
        """Where the gauges look."""
        self._flight.labels(self._model).set_function(in_flight)
        self._held.labels(self._model).set_function(held)

    def answered(self, revision: str | None, status: int) -> None:
        """A request has its answer."""
        self._answered.labels(self._model, str(revision), str(status)).inc()

    def retried(self) -> None:
        """A request goes to another replica."""
        self._retried.inc()

    def broken(self) -> None:
        """An answer was cut off."""
        self._broken.inc()

    def gone(self) -> None:
        """A client did not wait."""
        self._gone.inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
