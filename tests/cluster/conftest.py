"""What all tests on a real cluster share: the fixtures, and builds before the first test."""

from pathlib import Path

import pytest

from support import cluster as harness
from support.building import before_the_first_test
from support.cluster import api, api_faults, cluster, fake_nodes, namespace

__all__ = ["api", "api_faults", "cluster", "fake_nodes", "namespace"]

_left_out: list[pytest.Item] = []


def _runs_on_any_cluster(item: pytest.Item) -> bool:
    names = set(getattr(item, "fixturenames", ()))
    return "api" in names and not names & harness.BREAKING


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a cluster that is not ours, runs what any cluster stands; leaves the rest out, and says so at the end."""
    if harness.foreign_kubeconfig():
        ours = [
            item for item in items if item.get_closest_marker("cluster") and Path(__file__).parent in item.path.parents
        ]
        _left_out.extend(item for item in ours if not _runs_on_any_cluster(item))
        items[:] = [item for item in items if item not in _left_out]
        config.hook.pytest_deselected(items=_left_out)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds before the first test starts."""
    if not harness.foreign_kubeconfig():
        before_the_first_test(session, "cluster", Path(__file__).parent, harness.provide_everything)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Names what was left out."""
    if _left_out:
        terminalreporter.write_line(
            f"not run: {len(_left_out)} tests that need a cluster of their own, because KUBECONFIG names another; "
            "unset it to run them"
        )
