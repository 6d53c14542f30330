"""Building programs before the first test: a first build takes longer than a test may."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from optcluster.errors import ClusterError


def before_the_first_test(session: pytest.Session, marker: str, folder: Path, provide: Callable[[], object]) -> None:
    """Call `provide` if a test with this marker below `folder` is going to run; its words reach the terminal."""
    wanted = any(item.get_closest_marker(marker) and folder in item.path.parents for item in session.items)
    if not wanted or session.config.option.collectonly:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        try:
            provide()
        except ClusterError as error:
            # the tests that need it will fail with the same words; the others go on
            session.config.get_terminal_writer().line(f"cluster: {error}", red=True)
