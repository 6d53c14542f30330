"""What a gateway counts."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """All metrics of one gateway."""

    def __init__(self, model: str) -> None:
        self.registry = registry = CollectorRegistry()
        self._model, one = model, ["model_name"]
        self._flight = Gauge("opt_gateway_requests_in_flight", "Requests at replicas.", one, registry=registry)
        self._held = Gauge("opt_gateway_requests_held", "Requests that wait for a replica.", one, registry=registry)
        self._answered = Counter(
            "opt_gateway_requests", "Requests answered, by revision and status.", [*one, "revision", "status"],
            registry=registry,
        )  # fmt: skip
        self._retried, self._broken, self._gone = (
            Counter(f"opt_gateway_{name}", words, one, registry=registry).labels(model)
            for name, words in (
                ("retries", "Requests tried at another replica."),
                ("broken", "Answers cut off by a lost replica."),
                ("clients_gone", "Clients that did not wait."),
            )
        )

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
