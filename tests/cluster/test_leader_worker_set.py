"""A replica over several hosts, as LeaderWorkerSet's own controller carries it out: groups of pods on KWOK's nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from opt_api.resources import OPTServe
from opt_api.serving.status import ServedCheckpoint
from opt_operator.core.builders.common import Parent
from opt_operator.core.serving.builders import replicas
from opt_operator.core.serving.builders.common import Blueprint, Revision
from opt_operator.shell.cache import view_of
from optcluster.cluster import Cluster
from optcluster.kwok import FAKE_TAINT, FakeNodes
from optcluster.wait import wait_for
from support.cluster import pod_is_ready, unique
from support.lws import GROUP, leader_worker_sets
from support.opmodel.serve_scenarios import TWO_HOSTS
from support.tracked import ROOT

pytestmark = pytest.mark.cluster
CHECKPOINT = ServedCheckpoint(step=7, digest="sha256:" + "7" * 64, uri="file:///store/7/export")
PLACE = {"LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX"}


@pytest.fixture
def made(cluster: Cluster, fake_nodes: FakeNodes, namespace: str) -> Iterator[Blueprint]:
    """A served model whose pods go to two fake nodes, in a cluster with LeaderWorkerSet; its owner is in the API."""
    nodes = [fake_nodes.add(unique("gpu"), capacity={"ephemeral-storage": "1Ti"}) for _ in range(2)]
    path = f"/apis/opt-operator.io/v1alpha1/namespaces/{namespace}/optserves"
    pods = {"nodeSelector": fake_nodes.mark, "tolerations": [{"key": FAKE_TAINT["key"], "operator": "Exists"}],
            "image": "registry/vllm:1"}  # fmt: skip
    spec = {"source": {"uri": "file:///store/7"}, "engine": TWO_HOSTS, "pods": pods}
    document = {"apiVersion": "opt-operator.io/v1alpha1", "kind": "OPTServe", "spec": spec,
                "metadata": {"name": "wide", "namespace": namespace}}  # fmt: skip
    cluster.api.apply_file(ROOT / "crds" / "optserves.yaml")
    with leader_worker_sets(cluster, namespace):
        uid = cluster.api.create(path, document)["metadata"]["uid"]
        serve = OPTServe.model_validate(document)
        parent = Parent("wide", namespace, uid, serve.spec.pods, "OPTServe")
        yield Blueprint(parent, serve, "registry/serving:1", "registry/vllm:1", serve.spec.storage)
        cluster.api.delete(f"{path}/wide")
        wait_for(lambda: not pods_of(cluster, namespace), 60, "all pods gone with their owner")
    for name in nodes:
        fake_nodes.remove(name)


def pods_of(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    return {pod["metadata"]["name"]: pod for pod in cluster.api.items(f"/api/v1/namespaces/{namespace}/pods")}


def ready(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """Those of a namespace in which every pod is Ready, else none."""
    found = pods_of(cluster, namespace)
    return found if all(pod_is_ready(pod) for pod in found.values()) else {}


def told(cluster: Cluster, namespace: str) -> str:
    """What each pod says of itself."""
    return "\n".join(f"{name}: {pod['status']}" for name, pod in pods_of(cluster, namespace).items())


def test_each_replica_is_a_group_that_comes_and_goes_together(cluster: Cluster, made: Blueprint) -> None:
    namespace, revision = made.parent.namespace, Revision("abc", CHECKPOINT)
    created = cluster.api.create(
        f"/apis/{GROUP}/v1/namespaces/{namespace}/leaderworkersets", replicas.workload(made, revision, 2)
    )
    wait_for(lambda: len(ready(cluster, namespace)) == 4, 60, "two groups of two", lambda: told(cluster, namespace))
    found = ready(cluster, namespace)
    roles = {name: pod["metadata"]["labels"]["opt-operator.io/role"] for name, pod in found.items()}
    assert roles == {
        "wide-abc-0": "replica",
        "wide-abc-0-1": "worker",
        "wide-abc-1": "replica",
        "wide-abc-1-1": "worker",
    }
    for name, pod in found.items():
        environment = {one["name"]: one.get("value", "") for one in pod["spec"]["containers"][0]["env"]}
        assert set(environment) >= PLACE, name
        assert environment["LWS_LEADER_ADDRESS"].startswith(f"{name[: len('wide-abc-0')]}.")

    before = found["wide-abc-0"]["metadata"]["uid"]
    cluster.api.delete(f"/api/v1/namespaces/{namespace}/pods/wide-abc-0-1")
    wait_for(lambda: _is_new(ready(cluster, namespace), before), 60, "the whole group anew")
    assert ready(cluster, namespace)["wide-abc-1"]["metadata"]["uid"] == found["wide-abc-1"]["metadata"]["uid"]

    cluster.api.apply(replicas.scaled("LeaderWorkerSet", namespace, created["metadata"]["name"], 1))
    wait_for(lambda: set(ready(cluster, namespace)) == {"wide-abc-0", "wide-abc-0-1"}, 60, "one group of two")
    seen = view_of("LeaderWorkerSet", cluster.api.items(f"/apis/{GROUP}/v1/namespaces/{namespace}/leaderworkersets")[0])
    assert (seen.kind, seen.spec.replicas) == ("LeaderWorkerSet", 1)


def _is_new(found: dict[str, dict[str, Any]], before: str) -> bool:
    return len(found) == 4 and found["wide-abc-0"]["metadata"]["uid"] != before
