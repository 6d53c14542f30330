"""A thin layer with this checkout's code goes onto the image that the nodes have."""

from pathlib import Path

import pytest

from optcluster import images, layers, trainer_image
from optcluster.cluster import Cluster
from support.cluster import pod, wait_pod

pytestmark = pytest.mark.cluster

IMAGE = "localhost/opt-trainer:test"


def test_a_pod_runs_the_code_of_this_checkout(cluster: Cluster, namespace: str, tmp_path: Path):
    base = trainer_image.archive()
    archive = layers.with_trainer_code(base, IMAGE, tmp_path / "code.tar")
    assert archive.stat().st_size < base.stat().st_size / 20
    node = cluster.node(1)
    images.load(node.machine, archive)

    asked = pod("code", "import opt_api, opt_store, torch; print(opt_api.__file__)", node.name)
    asked["spec"] |= {"restartPolicy": "Never"}
    asked["spec"]["containers"][0]["image"] = IMAGE
    path = f"/api/v1/namespaces/{namespace}/pods"
    cluster.api.create(path, asked)
    ended = ("Succeeded", "Failed")
    found = wait_pod(cluster.api, namespace, "code", lambda one: one["status"]["phase"] in ended, 60, "ended")
    log = cluster.api.request("GET", f"{path}/code/log")
    assert found["status"]["phase"] == "Succeeded", log
    assert log.startswith(f"/{layers.PYTHON_PACKAGES}/opt_api/")
