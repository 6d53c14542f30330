"""Prometheus metrics under vLLM's names, so that its dashboards and scalers work unchanged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from opt_serving.engine import Sequence
from opt_serving.engine.engine import Load
from opt_serving.settings import PAGE

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640)
_GAPS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
_HISTOGRAMS = {
    "time_to_first_token_seconds": ("From arrival to the first token.", _SECONDS),
    "inter_token_latency_seconds": ("Between two tokens of a sequence.", _GAPS),
    "request_time_per_output_token_seconds": ("Mean time for a token of a sequence after its first.", _GAPS),
    "e2e_request_latency_seconds": ("From arrival to the end.", _SECONDS),
    "request_queue_time_seconds": ("From arrival to the first pass.", _SECONDS),
    "request_prompt_tokens": ("Tokens of a prompt.", _TOKENS),
    "request_generation_tokens": ("Tokens generated for a sequence.", _TOKENS),
}


class _EngineLoad(Collector):
    def __init__(self, model: str, load: Callable[[], Load | None]) -> None:
        self._model, self._load = model, load

    def collect(self) -> Iterable[Metric]:
        load = self._load()
        gauges = {
            "num_requests_running": ("Sequences that are computed.", load.running if load else 0),
            "num_requests_waiting": ("Sequences that wait.", load.waiting if load else 0),
            "kv_cache_usage_perc": ("Share of the pages in use, 0 to 1.", load.pages_used / load.pages if load else 0),
        }
        for name, (text, value) in gauges.items():
            gauge = GaugeMetricFamily(f"vllm:{name}", text, labels=["model_name"])
            gauge.add_metric([self._model], value)
            yield gauge
        counters = {
            "prefix_cache_queries": load.prompt_tokens_looked_for if load else 0,
            "prefix_cache_hits": load.prompt_tokens_found if load else 0,
        }
        for name, value in counters.items():
            counter = CounterMetricFamily(
                f"vllm:{name}", "Tokens of prompts looked for, or found.", labels=["model_name"]
            )
            counter.add_metric([self._model], value)
            yield counter
        info = GaugeMetricFamily("vllm:cache_config_info", "The cache.", labels=["block_size", "num_gpu_blocks"])
        info.add_metric([str(PAGE), str(load.pages if load else 0)], 1)
        yield info


class Metrics:
    """All metrics of one server."""

    def __init__(self, model: str, load: Callable[[], Load | None]) -> None:
        self.registry = CollectorRegistry()
        self._model = model
        self._histograms = {
            name: Histogram(f"vllm:{name}", text, ["model_name"], buckets=buckets, registry=self.registry).labels(model)
            for name, (text, buckets) in _HISTOGRAMS.items()
        }
        label = ["model_name"]
        self._prompt = Counter("vllm:prompt_tokens", "Tokens of prompts.", label, registry=self.registry).labels(model)
        self._generated = Counter("vllm:generation_tokens", "Tokens generated.", label, registry=self.registry).labels(
            model
        )
        self._success = Counter(
            "vllm:request_success", "Sequences that ended, by why.", ["model_name", "finished_reason"],
            registry=self.registry,
        )  # fmt: skip
        self._refused = Counter(
            "opt:requests_refused", "Requests answered with an error, by status.", ["model_name", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.registry.register(_EngineLoad(model, load))

    def token(self, sequence: Sequence, last: float | None) -> float:
        """A token came; returns when. `last` is when the one before it came."""
        now = time.monotonic()
        self._generated.inc()
        if last is None:
            self._observe("time_to_first_token_seconds", now - sequence.arrived)
        else:
            self._observe("inter_token_latency_seconds", now - last)
        return now

    def ended(self, sequence: Sequence, reason: str) -> None:
        """A sequence ended."""
        now, count = time.monotonic(), len(sequence.generated)
        self._success.labels(self._model, reason).inc()
        self._prompt.inc(len(sequence.prompt))
        self._observe("request_prompt_tokens", len(sequence.prompt))
        self._observe("request_generation_tokens", count)
        self._observe("e2e_request_latency_seconds", now - sequence.arrived)
        if sequence.started is not None:
            self._observe("request_queue_time_seconds", sequence.started - sequence.arrived)
        if sequence.first_token is not None and count > 1:
            self._observe("request_time_per_output_token_seconds", (now - sequence.first_token) / (count - 1))

    def refused(self, status: int) -> None:
        """A request was answered with an error."""
        self._refused.labels(self._model, str(status)).inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)

    def _observe(self, name: str, value: float) -> None:
        self._histograms[name].observe(value)
