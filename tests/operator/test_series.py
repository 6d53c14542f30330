"""Numbers of many objects become series when they are asked for."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from opt_operator.shell.series import Series

pytestmark = pytest.mark.unit

A, B = ("team", "a"), ("team", "b")


def made() -> tuple[CollectorRegistry, Series]:
    series = Series("training", {"step": "Steps.", "phase": "1 for one."}, {"phase": "phase"})
    registry = CollectorRegistry()
    registry.register(series)
    return registry, series


def test_it_is_told_as_gauges_of_the_library_are() -> None:
    registry, series = made()
    series.show(A, {"step": 3, "phase": {"Running": 1.0}})
    series.show(B, {"step": 0.5, "phase": {"Failed": 1.0}})
    same = CollectorRegistry()
    steps = Gauge("step", "Steps.", ["namespace", "training"], registry=same)
    phase = Gauge("phase", "1 for one.", ["namespace", "training", "phase"], registry=same)
    for where, step, word in ((A, 3, "Running"), (B, 0.5, "Failed")):
        steps.labels(*where).set(step)
        phase.labels(*where, word).set(1)
    assert generate_latest(registry) == generate_latest(same)


def test_what_is_not_said_stays_and_a_mapping_is_replaced() -> None:
    registry, series = made()
    series.show(A, {"step": 3, "phase": {"Starting": 1.0}})
    series.show(A, {"step": None, "phase": {"Running": 1.0}})
    where = {"namespace": "team", "training": "a"}
    assert registry.get_sample_value("step", where) == 3
    assert registry.get_sample_value("phase", {**where, "phase": "Running"}) == 1
    assert registry.get_sample_value("phase", {**where, "phase": "Starting"}) is None


def test_what_is_forgotten_has_no_series() -> None:
    registry, series = made()
    series.show(A, {"step": 3})
    series.forget(A)
    series.forget(B)  # never shown
    assert registry.get_sample_value("step", {"namespace": "team", "training": "a"}) is None


def test_a_name_that_the_registry_has_is_refused() -> None:
    registry, _ = made()
    with pytest.raises(ValueError, match="Duplicated"):
        Gauge("step", "Another.", registry=registry)
