"""The S3 server of the cluster is reached by this machine and, by name, by a pod."""

import pytest
from minio import Minio

from optcluster import minio
from optcluster.cluster import Cluster
from support.cluster import pod, wait_pod

pytestmark = pytest.mark.cluster

READ = """
import os, sys
from minio import Minio
client = Minio(os.environ["AT"], access_key=os.environ["WHO"], secret_key=os.environ["WORD"], secure=False)
sys.exit(client.get_object("corpus", "line").read() != b"from outside")
"""


def test_a_pod_reads_by_name_what_this_machine_wrote(cluster: Cluster, namespace: str, tmp_path):
    server = minio.start(cluster)
    login = {"access_key": server.access_key, "secret_key": server.secret_key}
    client = Minio(server.address.removeprefix("http://"), secure=False, **login)
    client.make_bucket("corpus")
    (tmp_path / "line").write_bytes(b"from outside")
    client.fput_object("corpus", "line", str(tmp_path / "line"))

    reader = pod("reader", READ)
    reader["spec"]["restartPolicy"] = "Never"
    values = {"AT": server.url.removeprefix("http://"), "WHO": server.access_key, "WORD": server.secret_key}
    reader["spec"]["containers"][0]["env"] = [{"name": name, "value": value} for name, value in values.items()]
    cluster.api.create(f"/api/v1/namespaces/{namespace}/pods", reader)
    ended = ("Succeeded", "Failed")
    found = wait_pod(cluster.api, namespace, "reader", lambda p: p["status"]["phase"] in ended, 60, "ended")
    assert found["status"]["phase"] == "Succeeded", found["status"]
