"""LeaderWorkerSet in a cluster of the tests: its own controller and webhooks, beside the control plane."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from opt_operator.core.serving.names import LEADER_WORKER_SETS as GROUP
from optcluster import build, programs
from optcluster.cluster import Cluster
from optcluster.families import FAMILIES
from optcluster.init import Service
from optcluster.pki import Authority
from optcluster.wait import wait_for

WEBHOOKS = "https://127.0.0.1:9443"
CONFIG = {
    "apiVersion": "config.lws.x-k8s.io/v1alpha1", "kind": "Configuration", "leaderElection": {"leaderElect": False},
    "internalCertManagement": {"enable": False},
}  # fmt: skip


@contextlib.contextmanager
def leader_worker_sets(cluster: Cluster, namespace: str) -> Iterator[None]:
    """The API, for the time of the block; its webhooks look at that namespace alone."""
    home, kept = cluster.folder / "lws", build.folder_of(FAMILIES["lws"])
    certificates = home / "k8s-webhook-server" / "serving-certs"
    certificates.mkdir(parents=True, exist_ok=True)
    authority = Authority(cluster.folder / "pki")
    pair = authority.issue("lws", "lws", hosts=("127.0.0.1",))
    shutil.copy(pair.cert, certificates / "tls.crt")
    shutil.copy(pair.key, certificates / "tls.key")
    (home / "config.json").write_text(json.dumps({**CONFIG, "webhook": {"port": 9443, "certDir": str(certificates)}}))
    crds = [made for file in kept.glob("config/crd/bases/*.yaml") for made in cluster.api.apply_file(file)]
    wait_for(lambda: cluster.api.get(f"/apis/{GROUP}/v1/leaderworkersets"), 30, f"the API {GROUP}")
    environment = {"KUBECONFIG": str(cluster.kubeconfig), "TMPDIR": str(home), "HOME": str(home)}
    command = (str(programs.find("lws")), "--config", str(home / "config.json"))
    cluster.hub.serve(Service("lws", command, environment))
    hooks = cluster.api.apply(*_hooks(kept, authority.pair.cert, namespace))
    try:
        said = partial(cluster.hub.log_tail, "lws")
        wait_for(lambda: _answers(cluster, namespace), 120, "LeaderWorkerSet's webhooks", said)
        yield
    finally:
        for document in hooks:
            with contextlib.suppress(Exception):
                cluster.api.delete(cluster.api.path_of(document))
        cluster.hub.stop_service("lws")
        for document in crds:
            cluster.api.delete(cluster.api.path_of(document))


def _answers(cluster: Cluster, namespace: str) -> bool:
    """The API server reaches the webhooks: it refuses a group for as long as it does not.

    What the controller logs would say so too, but scrolls away.
    """
    pods = {"spec": {"containers": [{"name": "asked", "image": "none"}]}}
    asked = {"apiVersion": f"{GROUP}/v1", "kind": "LeaderWorkerSet", "metadata": {"name": "asked"},
             "spec": {"replicas": 1, "leaderWorkerTemplate": {"size": 1, "workerTemplate": pods}}}  # fmt: skip
    return bool(cluster.api.create(f"/apis/{GROUP}/v1/namespaces/{namespace}/leaderworkersets?dryRun=All", asked))


def _hooks(kept: Path, authority: Path, namespace: str) -> list[dict[str, Any]]:
    """The controller's own registrations, at an address where no Service is needed."""
    documents = list(yaml.safe_load_all(next(kept.rglob("webhook/manifests.yaml")).read_text()))
    bundle = base64.b64encode(authority.read_bytes()).decode()
    for document in documents:
        document["metadata"]["name"] = f"lws-{document['metadata']['name']}"
        document["webhooks"] = [hook for hook in document["webhooks"] if "disaggregatedset" not in hook["name"]]
        for hook in document["webhooks"]:
            path = hook["clientConfig"]["service"]["path"]
            hook["clientConfig"] = {"url": f"{WEBHOOKS}{path}", "caBundle": bundle}
            hook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return documents
