"""Numbers of many objects, kept as plain numbers and made into series when somebody asks for them.

A gauge of prometheus_client keeps an object, a lock and a dictionary for each of its series: 12 MB for a thousand
trainings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Where = tuple[str, str]
"""Namespace and name."""
Value = float | Mapping[str, float] | None
"""None leaves what was there; a mapping replaces it, by the further label."""


class Series(Collector):
    """Gauges of one kind of object.

    Args:
        kind: Label that names the object beside its namespace.
        gauges: What each says, by its name.
        further: The label that some have besides.
    """

    def __init__(self, kind: str, gauges: Mapping[str, str], further: Mapping[str, str]) -> None:
        self._labels, self._gauges, self._further = ("namespace", kind), gauges, further
        self._shown: dict[Where, dict[str, Value]] = {}

    def show(self, where: Where, values: Mapping[str, Value]) -> None:
        """An object's numbers as they are now."""
        told = {name: value for name, value in values.items() if value is not None}
        self._shown[where] = {**self._shown.get(where, {}), **told}  # a new one: another thread may read the old

    def forget(self, where: Where) -> None:
        """An object is gone: so are its numbers."""
        self._shown.pop(where, None)

    def collect(self) -> Iterable[Metric]:
        """Every gauge with the series that it has now."""
        shown = list(self._shown.items())
        for name, words in self._gauges.items():
            further = self._further.get(name)
            family = GaugeMetricFamily(name, words, labels=[*self._labels, *([further] if further else [])])
            for where, values in shown:
                value = values.get(name)
                if isinstance(value, Mapping):
                    for label, number in value.items():
                        family.add_metric([*where, label], number)
                elif value is not None:
                    family.add_metric(where, value)
            yield family

    def describe(self) -> Iterable[Metric]:
        """Names only: the registry refuses one that it has already."""
        return [Metric(name, words, "gauge") for name, words in self._gauges.items()]
