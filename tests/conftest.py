"""Rules of the whole suite: one tier a test, no silent skip, and a closing word on what was not run."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from support.garbage import kept_for_good

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")  # what a machine is busy with says nothing of the code

TIERS = ("unit", "integration", "cluster", "long", "gpu")
BY_MAKE = {"long": "make test-long", "gpu": "make test-gpu"}
_deselected: list[pytest.Item] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-seconds", type=float, default=3600, help="how long the run under random faults lasts")
    parser.addoption("--fault-seed", type=int, default=1, help="seed of its faults")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    with kept_for_good():  # garbage collection took a fifth of the unit tier's processor time
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    untiered = [item.nodeid for item in items if sum(item.get_closest_marker(t) is not None for t in TIERS) != 1]
    if untiered:
        raise pytest.UsageError(f"each test has exactly one of the markers {TIERS}: " + ", ".join(untiered[:10]))


def pytest_deselected(items: list[pytest.Item]) -> None:
    _deselected.extend(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and in CI nothing is: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = {t: sum(item.get_closest_marker(t) is not None for item in _deselected) for t in TIERS}
    for tier, count in counts.items():
        if count:
            how = BY_MAKE.get(tier, f"pytest -m {tier}")
            terminalreporter.write_line(f"not run: {count} {tier} tests; run them with `{how}`")
