"""The programs of a training in real pods on real nodes, by hand-made manifests: they go on, whatever is killed."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from optcluster import minio
from optcluster.cluster import Cluster
from optcluster.minio import S3Server
from support.cluster import fresh_namespace
from support.pod_run import PodRun, Watch, give_images

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def store(cluster: Cluster) -> S3Server:
    give_images(cluster, "trainer", "dataprep")
    return minio.start(cluster)


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, store: S3Server) -> Iterator[PodRun]:
    """A run that nothing happened to."""
    with fresh_namespace(cluster.api) as namespace:
        run = PodRun(cluster, namespace, store, "undisturbed")
        run.prepare()
        run.start({"host-0": "node-1", "host-1": "node-2"})
        Watch(run).until_finished()
        yield run


def kill_worker(run: PodRun, watch: Watch, host: str) -> None:
    """As the kernel does when memory is short; the pid is that of the pod's own name space."""
    pid = next(worker["pid"] for worker in watch.look()["workers"] if worker["host"] == host)
    run.exec_in(host, f"kill -{signal.SIGKILL} {pid}")


def test_a_killed_worker_pod_and_node_leave_the_result_as_it_is(
    cluster: Cluster, store: S3Server, namespace: str, undisturbed: PodRun, tmp_path: Path
):
    run = PodRun(cluster, namespace, store, "disturbed")
    run.prepare()
    run.start({"host-0": "node-1", "host-1": "node-2", "host-2": "node-3"})
    watch = Watch(run)
    watch.until_step(30)

    kill_worker(run, watch, "host-1")
    watch.until_attempt(2)

    run.kill_pod("host-1")
    found = watch.until_attempt(3)
    assert {worker["host"] for worker in found["workers"]} == {"host-0", "host-2"}
    run.start_host("host-3", "node-2", hardware="another-machine")
    watch.until_agent("host-3")

    lost = cluster.node(3)
    lost.kill()
    try:
        lost.wait_not_ready()
        run.tell("/gone", {"host": "host-2", "word": "node-3 is NotReady"})
        found = watch.until_attempt(4)
        assert {worker["host"] for worker in found["workers"]} == {"host-0", "host-3"}
        watch.until_finished()
    finally:
        lost.start()
    lost.wait_ready()
    assert run.checkpoints() == undisturbed.checkpoints()
