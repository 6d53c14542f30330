"""A fleet: 1,000 nodes, gangs of 124 hosts among 1,000 trainings, 200 nodes lost at once; the real operator over it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from optcluster import lifecycle, procs
from optcluster.wait import wait_for
from support.fleet import FLAGS, GROUP, Fleet, Size, team
from support.fleet_figures import lose_nodes

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    cluster = lifecycle.up("fleet-test", 0, procs.me(), flags=FLAGS)
    made = Fleet(cluster, Size(), tmp_path_factory.mktemp("fleet"))
    try:
        made.prepare()
        yield made
    finally:
        made.close()
        lifecycle.down(cluster)


def names_of_pods(fleet: Fleet) -> dict[str, str]:
    found = fleet.api.items("/api/v1/pods", labelSelector="app.kubernetes.io/managed-by=opt-operator")
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}


def test_a_fleet_runs_loses_a_fifth_of_its_nodes_and_loses_nothing_else(fleet: Fleet):
    operator = fleet.start_operator()
    fleet.submit()
    fleet.until_running()
    time.sleep(60)
    before = names_of_pods(fleet)
    assert len(before) == fleet.size.pods  # each place once: no duplicate pod
    assert fleet.phases() == {"Running": fleet.size.trainings}

    loss = lose_nodes(fleet, 0)
    assert len(loss.each) > fleet.size.doomed
    fleet.until_running()
    wait_for(lambda: len(names_of_pods(fleet)) == fleet.size.pods, 120, "as many pods as places")
    after = names_of_pods(fleet)
    kept = set(before) & set(after)
    assert {name: before[name] for name in kept} == {name: after[name] for name in kept}
    assert len(set(before) - set(after)) == len(loss.each)  # the lost pods are gone, and no other one

    assert operator.process.poll() is None
    assert operator.rss_mib() < 300


def test_losing_sight_of_everything_restarts_nothing(fleet: Fleet):
    """The operator is away, then its leader dies: pods stay what they are, and the next one takes over."""
    before = names_of_pods(fleet)
    fleet.close()
    time.sleep(20)
    terms = {(one.get("status") or {}).get("operatorTerm") for one in fleet.api.items(f"{GROUP}/opttrainings")}
    successor = fleet.start_operator()
    wait_for(lambda: successor.leads, 120, "the successor leads", successor.log.read_text)
    time.sleep(30)
    assert names_of_pods(fleet) == before
    later = {(one.get("status") or {}).get("operatorTerm") for one in fleet.api.items(f"{GROUP}/opttrainings")}
    assert max(later, key=lambda term: term or 0) > max(terms, key=lambda term: term or 0)


def test_the_record_of_a_large_gang_stays_small(fleet: Fleet):
    path = f"/api/v1/namespaces/{team(0)}/configmaps/gang-0-why"
    assert len(fleet.api.get(path)["data"]["decisions"]) < 256 * 1024
    assert Path(fleet.operators[0].log).stat().st_size > 0
