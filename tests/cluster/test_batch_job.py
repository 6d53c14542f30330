"""`examples/batch/job.yaml` on real nodes: a Job answers a JSONL of requests from what a store holds."""

import base64
import json
from pathlib import Path

import pytest
import yaml
from minio import Minio

from optcluster import minio
from optcluster.api import Object
from optcluster.cluster import Cluster
from optcluster.minio import S3Server
from optcluster.wait import wait_for
from support.pod_run import SECRET, give_images
from support.served_models import write_model

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
EXAMPLE = Path(__file__).parents[2] / "examples" / "batch" / "job.yaml"
PATHS = {"ConfigMap": "/api/v1/namespaces/{}/configmaps", "Job": "/apis/batch/v1/namespaces/{}/jobs"}


def filled(server: S3Server, folder: Path) -> Minio:
    """The store with a model directory."""
    client = Minio(server.address.removeprefix("http://"), server.access_key, server.secret_key, secure=False)
    client.make_bucket("opt")
    write_model(folder)
    for file in folder.iterdir():
        client.fput_object("opt", f"model/{file.name}", str(file))
    return client


def test_a_job_answers_every_line(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    give_images(cluster, "serving")
    server = minio.start(cluster)
    client = filled(server, tmp_path)
    login = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    data = {key: base64.b64encode(value.encode()).decode() for key, value in login.items()}
    cluster.api.create(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": SECRET}, "data": data})
    for document in yaml.safe_load_all(EXAMPLE.read_text()):
        if document["kind"] == "Job":
            container = document["spec"]["template"]["spec"]["containers"][0]
            container["args"] = ["--model", "s3://opt/model", "--output", "s3://opt/answers.jsonl"]
            container["env"][0]["value"] = server.url
            container["imagePullPolicy"] = "Never"
        cluster.api.create(PATHS[document["kind"]].format(namespace), document)

    def ended() -> Object | None:
        job: Object = cluster.api.get(f"{PATHS['Job'].format(namespace)}/quickstart-batch")
        return job if job.get("status", {}).get("conditions") else None

    job = wait_for(ended, 240, "the end of the Job")
    assert job["status"]["succeeded"] == 1, job["status"]
    answers = [json.loads(line) for line in client.get_object("opt", "answers.jsonl").read().splitlines()]
    assert {answer["custom_id"] for answer in answers} == {"a", "b"}
    assert all(answer["response"]["status_code"] == 200 for answer in answers)
    assert "computer='compiled kernels (" in log_of(cluster, namespace), "the image brings them"


def log_of(cluster: Cluster, namespace: str) -> str:
    """What the Job's pod said."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    (one,) = cluster.api.get(f"{pods}?labelSelector=job-name%3Dquickstart-batch")["items"]
    log: str = cluster.api.request("GET", f"{pods}/{one['metadata']['name']}/log")
    return log
