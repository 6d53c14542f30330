"""Helm and kubeconform are built before the first test of the chart."""

from pathlib import Path

import pytest

from optcluster import programs
from support.building import before_the_first_test


def pytest_collection_finish(session: pytest.Session) -> None:
    def provide() -> None:
        programs.provide(("helm", "helm3", "kubeconform"), debian={})

    before_the_first_test(session, "integration", Path(__file__).parent, provide)
