"""What all tests on a real cluster share: the fixtures, and builds before the first test."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack" / "cluster"))

from optcluster.errors import ClusterError
from support import cluster as harness
from support.cluster import api, api_faults, cluster, fake_nodes, namespace

__all__ = ["api", "api_faults", "cluster", "fake_nodes", "namespace"]

_left_out: list[pytest.Item] = []


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Never breaks a cluster that is not ours: leaves those tests out, and says so at the end."""
    if harness.foreign_kubeconfig():
        _left_out.extend(item for item in items if harness.BREAKING & set(getattr(item, "fixturenames", ())))
        items[:] = [item for item in items if item not in _left_out]
        config.hook.pytest_deselected(items=_left_out)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds before the first test starts: a first build takes longer than a test may."""
    needing = harness.BREAKING | (set() if harness.foreign_kubeconfig() else {"api"})
    ours = any(needing & set(getattr(item, "fixturenames", ())) for item in session.items)
    if not ours or session.config.option.collectonly:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        try:
            harness.provide_everything()
        except ClusterError as error:
            # the tests that need it will fail with the same words; the others go on
            session.config.get_terminal_writer().line(f"cluster: {error}", red=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Names what was left out."""
    if _left_out:
        terminalreporter.write_line(
            f"not run: {len(_left_out)} tests that break a cluster, because KUBECONFIG names one that is not ours; "
            "unset it to run them on a cluster of their own"
        )
