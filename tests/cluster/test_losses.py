"""A node is frozen, cut off and killed whole; each time the control plane notices, and the node comes back."""

import pytest

from optcluster import cgroups
from optcluster.cluster import Cluster
from optcluster.wait import wait_for
from support.cluster import pod, pod_is_ready, wait_pod

pytestmark = pytest.mark.cluster

COUNT = """
import itertools, time
for number in itertools.count():
    print(number, flush=True); time.sleep(0.2)
"""


def test_a_frozen_node_is_noticed_and_goes_on_where_it_stood(cluster: Cluster, namespace: str):
    node = cluster.node(1)
    cluster.api.create(f"/api/v1/namespaces/{namespace}/pods", pod("count", COUNT, node.name))
    before = wait_pod(cluster.api, namespace, "count", pod_is_ready, 60, "Ready")
    node.freeze()
    try:
        node.wait_not_ready()
        held = cluster.api.get(f"/api/v1/namespaces/{namespace}/pods/count")
        assert held["status"]["phase"] == "Running"  # the API is the last to know
    finally:
        node.thaw()
    node.wait_ready()
    after = wait_pod(cluster.api, namespace, "count", pod_is_ready, 60, "Ready again")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_node_that_is_cut_off_runs_on_and_returns(cluster: Cluster):
    node = cluster.node(2)
    running = cgroups.pids(node.machine.group)
    node.cut_off()
    try:
        node.wait_not_ready()
        assert running & cgroups.pids(node.machine.group)
    finally:
        node.heal()
    node.wait_ready()


def test_a_node_killed_whole_leaves_nothing_running_and_starts_again(cluster: Cluster, namespace: str):
    node = cluster.node(3)
    cluster.api.create(f"/api/v1/namespaces/{namespace}/pods", pod("lost", COUNT, node.name))
    wait_pod(cluster.api, namespace, "lost", pod_is_ready, 60, "Ready")
    node.kill()
    try:
        assert not cgroups.pids(node.machine.group)
        assert not node.machine.is_up
        node.wait_not_ready()
        # nobody has told the API that the pod is gone: the case that the operator must win
        lost = cluster.api.get(f"/api/v1/namespaces/{namespace}/pods/lost")
        assert lost["status"]["phase"] == "Running"
    finally:
        node.start()
    node.wait_ready()


def test_an_api_server_that_dies_is_started_again(cluster: Cluster):
    path = "/api/v1/namespaces/kube-system"
    before = cluster.api.get(path)["metadata"]["uid"]
    cluster.hub.kill_service("kube-apiserver")
    with pytest.raises(OSError):
        cluster.api.get(path)
    again = wait_for(lambda: cluster.api.get(path), 60, "the API server back", lambda: cluster.hub.log_tail("init"))
    assert again["metadata"]["uid"] == before
