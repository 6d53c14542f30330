"""The crash sweep on a real API server: what it refuses, defaults, merges and stamps is its own, not a model's.

Controllers and kubelets are played by the model's world, so that time may pass quickly.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from optcluster import lifecycle, procs
from optcluster.api import Api
from optcluster.wait import wait_for
from support.opmodel.harness import Run, end_of, fresh, play
from support.opmodel.live import LiveApi
from support.opmodel.scenarios import SCENARIOS
from support.opmodel.world import NS

ROOT = Path(__file__).parents[2]
WITHOUT = ("kube-controller-manager", "kube-scheduler")
SHORT = ("node-loss", "live-change")
SAMPLE = 4
"""Deaths in each scenario, spread over all writes of it."""


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    """A control plane of API server and etcd alone, with our definitions."""
    made = lifecycle.up(f"sweep-{os.getpid()}", 0, procs.me())
    for name in WITHOUT:
        made.hub.stop_service(name)
        made.hub.kill_service(name)
    for name in ("opttrainings", "optserves"):
        made.api.apply_file(ROOT / "crds" / f"{name}.yaml")
    path = "/apis/opt-operator.io/v1alpha1/opttrainings"
    wait_for(lambda: made.api.get(path), 60, "the definitions are served")
    made.api.create("/api/v1/namespaces", {"metadata": {"name": NS}})
    made.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NS}})
    yield made.api
    lifecycle.down(made)


def run_of(server: Api, name: str, die_at: int | None = None, end: dict | None = None) -> Run:
    api, scenario = LiveApi(server, NS), SCENARIOS[name]
    api.clear()
    return Run(fresh(api), scenario.script, scenario.after, end or scenario.end, die_at=die_at)


def sweep(server: Api, name: str, deaths: int) -> None:
    base = run_of(server, name)
    wanted = end_of(play(base))
    assert {key: wanted[key] for key in SCENARIOS[name].end} == SCENARIOS[name].end
    first = 0 if name == "create" else base.before
    for index in range(first, base.writes, max(1, (base.writes - first) // deaths)):
        run = run_of(server, name, index, wanted)
        found = end_of(play(run))
        what = f"died at write {index}: {base.made[index]}"
        assert found == wanted, what
        assert not run.doubled, what
        assert run.deaths == 1, what


@pytest.mark.cluster
@pytest.mark.parametrize("name", SHORT)
def test_it_may_die_once_on_a_real_server(name: str, server: Api):
    sweep(server, name, 1)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SCENARIOS)
def test_it_may_die_after_a_sample_of_writes_on_a_real_server(name: str, server: Api):
    sweep(server, name, SAMPLE)
