"""A control plane of our own with the CRDs in it, for the whole of tests/api."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from optcluster import lifecycle, procs, programs
from optcluster.api import Api, ApiError
from optcluster.families import CONTROL_PLANE
from optcluster.wait import wait_for
from support.building import before_the_first_test
from support.judges import ApiServer

CRDS = Path(__file__).parents[2] / "crds"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds the control plane before the first test starts."""
    before_the_first_test(session, "integration", Path(__file__).parent, lambda: programs.provide(CONTROL_PLANE))


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """A real API server and etcd, no nodes, about five seconds to start; `KUBEBUILDER_ASSETS` is honoured."""
    cluster = lifecycle.up(f"crds-{os.getpid()}", 0, procs.me())
    try:
        for path in sorted(CRDS.glob("*.yaml")):
            cluster.api.apply_file(path)
        wait_for(lambda: len(_served(cluster.api)) == 2, 15, "both resources to be served")
        server = ApiServer(cluster.api, cluster.kubeconfig)
        yield server
        server.close()
    finally:
        lifecycle.down(cluster)


def _served(api: Api) -> set[str]:
    try:
        found = api.get("/apis/opt-operator.io/v1alpha1")["resources"]
    except ApiError:
        return set()
    return {resource["name"] for resource in found if "/" not in resource["name"]}
