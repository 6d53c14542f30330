"""KWOK's nodes in the same cluster: any labels, and faults to order."""

import pytest

from optcluster.cluster import Cluster
from optcluster.kwok import FAKE_TAINT, FakeNodes
from optcluster.wait import wait_for
from support.cluster import pod, pod_is_ready, unique, wait_pod

pytestmark = pytest.mark.cluster


@pytest.fixture
def fake(fake_nodes: FakeNodes):
    name = fake_nodes.add(unique("fake"), labels={"example.com/rack": "r7"}, capacity={"nvidia.com/gpu": "4"})
    wait_for(lambda: fake_nodes.is_ready(name), 30, f"{name} Ready")
    yield name
    fake_nodes.remove(name)


def test_a_fake_node_has_the_labels_and_devices_it_was_given(cluster: Cluster, fake: str):
    found = cluster.api.get(f"/api/v1/nodes/{fake}")
    assert found["metadata"]["labels"]["example.com/rack"] == "r7"
    assert found["status"]["allocatable"]["nvidia.com/gpu"] == "4"


def test_a_fake_node_fails_and_recovers(fake_nodes: FakeNodes, fake: str):
    fake_nodes.fail(fake)
    wait_for(lambda: not fake_nodes.is_ready(fake), 30, f"{fake} not Ready")
    fake_nodes.recover(fake)
    wait_for(lambda: fake_nodes.is_ready(fake), 30, f"{fake} Ready again")


def test_a_lost_fake_node_becomes_unknown_and_recovers(cluster: Cluster, fake_nodes: FakeNodes, fake: str):
    def ready_status() -> str:
        conditions = cluster.api.get(f"/api/v1/nodes/{fake}")["status"]["conditions"]
        return next(entry["status"] for entry in conditions if entry["type"] == "Ready")

    fake_nodes.lose(fake)
    wait_for(lambda: ready_status() == "Unknown", 60, f"{fake} Unknown", ready_status)
    fake_nodes.recover(fake)
    wait_for(lambda: ready_status() == "True", 60, f"{fake} Ready again", ready_status)


def test_a_pod_runs_and_fails_to_order_on_a_fake_node(
    cluster: Cluster, fake_nodes: FakeNodes, fake: str, namespace: str
):
    wanted = pod("gang", "pass", fake)
    wanted["spec"]["tolerations"] = [{"key": FAKE_TAINT["key"], "operator": "Exists"}]
    cluster.api.create(f"/api/v1/namespaces/{namespace}/pods", wanted)
    wait_pod(cluster.api, namespace, "gang", pod_is_ready, 30, "Ready")
    fake_nodes.fail_pod(namespace, "gang")
    wait_pod(cluster.api, namespace, "gang", lambda found: found["status"]["phase"] == "Failed", 30, "Failed")
