"""A served model on real nodes: it follows a training to each newer checkpoint, and no request is lost."""

import json
import time
from collections.abc import Iterator

import pytest
import requests

from optcluster.cluster import Cluster
from support.operator_run import Release, Training, released
from support.serve_run import Clients, Serve

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def release(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    with released(cluster, tmp_path_factory.mktemp("release"), "serving") as made:
        yield made


@pytest.fixture(scope="module")
def training(release: Release) -> Iterator[Training]:
    """Long enough for many checkpoints; one host, so that there is room for replicas."""
    made = Training(release, "followed", "followed", steps=100_000, resilience={})
    made.apply()
    made.until_step(60, deadline_s=600)
    yield made
    made.delete()


def test_it_rolls_to_each_newer_checkpoint_under_load(release: Release, training: Training):
    serve = Serve(release, "model", training.name)
    serve.apply()
    steps = [serve.until_served_after(0, deadline_s=600)]
    with Clients(serve.url) as clients:
        for _ in range(3):
            steps.append(serve.until_served_after(steps[-1], deadline_s=600))
    print(json.dumps({"steps": steps, "answers": clients.statuses, "broken": clients.broken[:3]}))
    assert clients.good, (clients.statuses, clients.broken[:5])
    assert sum(clients.statuses.values()) > 20
    assert steps == sorted(set(steps))
    status = serve.status()
    assert [c["step"] for c in status["previous"]] == steps[-2::-1][:2]
    serve.delete()


def test_a_killed_replica_and_a_lost_node_cost_their_own_streams_only(release: Release, training: Training):
    serve = Serve(release, "pair", training.name, {"replicas": 2, "rollout": {"follow": False, "drainSeconds": 60}})
    serve.apply()
    serve.until_served_after(0, deadline_s=600)
    cluster, counts = release.cluster, {}
    with Clients(serve.url) as clients:
        victim = serve.pods("replica")[0]["metadata"]["name"]
        cluster.api.delete(f"/api/v1/namespaces/{release.namespace}/pods/{victim}", grace_s=0)
        serve.until_phase("Serving")
        time.sleep(5)
    counts["pod"] = (dict(clients.statuses), clients.broken)
    with Clients(serve.url) as clients:
        nodes = {pod["spec"]["nodeName"] for pod in serve.pods("replica")} - {"node-1"}
        lost = cluster.node(int(min(nodes).rpartition("-")[2]))
        lost.kill()
        try:
            lost.wait_not_ready()
            serve.until_phase("Serving")
            time.sleep(10)
        finally:
            lost.start()
    lost.wait_ready()
    counts["node"] = (dict(clients.statuses), clients.broken)
    with Clients(serve.url) as after:
        time.sleep(10)
    counts["after"] = (dict(after.statuses), after.broken)
    print(json.dumps(counts))
    assert all("replica_lost" in word for word in counts["pod"][1])
    assert len(counts["node"][1]) <= clients.count, "what each client had open at a machine that is no more"
    assert after.good
    assert after.statuses[200] > 5
    serve.delete()


def test_a_sleeping_model_wakes_for_a_request(release: Release, training: Training):
    scaling = {"minReplicas": 0, "maxReplicas": 1, "targetInFlight": 4, "scaleDownDelaySeconds": 5}
    serve = Serve(release, "sleeper", training.name, {"autoscaling": scaling, "rollout": {"follow": False}})
    serve.apply()
    serve.until_phase("Asleep", deadline_s=600)  # nobody asks: it may fall asleep before it was ever awake
    assert requests.get(f"{serve.url}/v1/models", timeout=30).json()["data"][0]["id"] == "tiny"
    body = {"prompt": [5, 6, 7], "max_tokens": 4}
    answer = requests.post(f"{serve.url}/v1/completions", json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    serve.delete()
