"""The shortest proof on real nodes: a training loses a node, a spare takes its place, and it comes to its end."""

import json
import time
from collections.abc import Iterator

import pytest

from optcluster.cluster import Cluster
from support.operator_run import Release, Training, released

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def release(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    with released(cluster, tmp_path_factory.mktemp("release")) as made:
        yield made


def test_a_spare_takes_the_place_of_a_lost_node(release: Release):
    training = Training(release, "small", "lost", steps=300)
    training.apply()
    training.until_whole(400)
    attempt = training.until_step(20)["attempt"]
    lost = release.cluster.node(int(training.node_of_a_worker("node-1").rpartition("-")[2]))
    began = time.monotonic()
    lost.kill()
    try:
        _, before, after = training.until_recovered(attempt)
        print(json.dumps({"seconds": round(time.monotonic() - began, 1), "before": before, "after": after}))
        status = training.until_phase("Succeeded", "Failed", deadline_s=300)
    finally:
        lost.start()
    lost.wait_ready()
    assert status["phase"] == "Succeeded", training.describe()
    assert status["step"] == training.steps
    swaps = [entry for entry in training.entries() if entry.get("rung") == 2]
    assert swaps
    assert all(entry.get("stepsLost", 0) <= 1 for entry in swaps)
    training.delete()
