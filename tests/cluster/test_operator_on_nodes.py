"""From `helm install` to a finished training on real nodes, through a killed worker and a lost node."""

import json
import time
from collections.abc import Iterator

import pytest

from optcluster.cluster import Cluster
from support.operator_run import Release, Training, released

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def release(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    with released(cluster, tmp_path_factory.mktemp("release")) as made:
        yield made


@pytest.fixture(scope="module")
def undisturbed(release: Release) -> Training:
    """The same training with nothing in its way."""
    training = Training(release, "small", "undisturbed", resilience={})
    training.apply()
    training.until_phase("Succeeded", "Failed", deadline_s=540)
    return training


def test_an_undisturbed_training_succeeds(undisturbed: Training):
    status = undisturbed.status()
    assert status["phase"] == "Succeeded", undisturbed.describe()
    assert status["step"] == undisturbed.steps
    assert {c["type"]: c["status"] for c in status["conditions"]}["DatasetReady"] == "True"
    result = undisturbed.result()
    assert max(result) == undisturbed.steps
    undisturbed.delete()


def test_a_killed_worker_and_a_lost_node_leave_the_result_as_it_is(release: Release, undisturbed: Training):
    expected = undisturbed.result()
    training = Training(release, "small", "disturbed")
    training.apply()
    training.until_step(30, deadline_s=400)
    seconds = {}

    attempt = training.until_step(0)["attempt"]
    training.kill_worker(1)
    seconds["worker"], *_ = training.until_recovered(attempt)

    attempt = training.until_step(0)["attempt"]
    lost = release.cluster.node(int(training.node_of_a_worker("node-1").rpartition("-")[2]))
    began = time.monotonic()
    lost.kill()
    try:
        training.until_recovered(attempt)
        seconds["node"] = time.monotonic() - began
        status = training.until_phase("Succeeded", "Failed", deadline_s=400)
    finally:
        lost.start()
    lost.wait_ready()
    assert status["phase"] == "Succeeded", training.describe()
    assert training.result() == expected
    causes = training.causes()
    print(json.dumps({"seconds": seconds, "causes": causes}))
    assert (causes[0], causes[-1]) == ("Started", "Completed")
    assert "WorkerKilled" in causes
    training.delete()
