"""A release of the chart and a training under it: what a user does, and what is asked of it in tests."""

from __future__ import annotations

import base64
import copy
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from minio import Minio
from minio.error import S3Error

from opt_api.documents.manifests import CheckpointManifest
from opt_operator.core.rules.coordinators import STEPPING
from opt_runtime.wire import Client, Gone
from optcluster.api import Object
from optcluster.cluster import Cluster
from optcluster.wait import wait_for
from support.charts import CHART, forget_definitions, helm
from support.cluster import describe_pod, fresh_namespace, kubectl
from support.evaluation_store import give_seaweedfs
from support.pod_run import SPEC, give_images

GROUP = "/apis/opt-operator.io/v1alpha1"
TRAINING = "opt-operator.io/training"
ROLE = "opt-operator.io/role"
MADE_IN = "opt-operator.io/made-in"
LOGIN = "object-store-credentials"
GANG = SPEC["parallelism"]["hosts"]
CHECKS = {
    "seconds": 1, "minMatmulRatio": 0.01, "minMemoryRatio": 0.01, "minBandwidthRatio": 0.01, "stragglerRatio": 100,
    "maxFaultsPerDay": 100,
}  # fmt: skip
"""A short burn-in. All nodes of a test share one machine: how quick they are says nothing of them. And a test does more
to a node than a day does."""


@dataclass
class Release:
    """The operator and its evaluation store, both on node 1, which no test breaks."""

    cluster: Cluster
    system: str
    namespace: str

    def install(self, folder: Path) -> str:
        """`helm install`; what it printed."""
        forget_definitions(self.cluster.api)
        path = folder / "values.yaml"
        store = {"enabled": True, "secretNamespaces": [self.namespace]}
        values = {"evaluationStore": store, "nodeSelector": {"kubernetes.io/hostname": "node-1"}}
        path.write_text(yaml.safe_dump(values))
        place = ("--namespace", self.system, "--values", str(path), "--wait", "--timeout", "4m")
        return helm("install", "opt", CHART, *place, kubeconfig=self.cluster.kubeconfig)

    def uninstall(self) -> None:
        """`helm uninstall`."""
        helm("uninstall", "opt", "--namespace", self.system, "--wait", kubeconfig=self.cluster.kubeconfig)

    def operator_pods(self) -> list[Object]:
        """The operator's pods."""
        path = f"/api/v1/namespaces/{self.system}/pods"
        return self.cluster.api.items(path, labelSelector="opt-operator.io/component=operator")

    def scale(self, replicas: int) -> None:
        """Takes the operator away, or brings it back."""
        path = f"/apis/apps/v1/namespaces/{self.system}/deployments/opt"
        self.cluster.api.patch(path, {"spec": {"replicas": replicas}})

    def log(self) -> str:
        """The ends of the operator's logs."""
        core = f"/api/v1/namespaces/{self.system}/pods"
        names = [pod["metadata"]["name"] for pod in self.operator_pods()]
        return "\n".join(self.cluster.api.request("GET", f"{core}/{name}/log?tailLines=15") for name in names)


@contextmanager
def released(cluster: Cluster, folder: Path, *roles: str) -> Iterator[Release]:
    """A release with the images of these roles on every node, and what stands around it, until the end of the block."""
    give_images(cluster, "operator", "trainer", "dataprep", *roles)
    give_seaweedfs(cluster)
    with fresh_namespace(cluster.api) as system, fresh_namespace(cluster.api) as namespace:
        made = Release(cluster, system, namespace)
        made.install(folder)
        yield made
        made.uninstall()


@dataclass
class Training:
    """One OPTTraining.

    Attributes:
        release: Who runs it.
        name: Of the resource.
        prefix: In the store.
        steps: How many.
        more: Fields of the spec beyond those that every test's training has.
    """

    release: Release
    name: str
    prefix: str
    steps: int = 400
    resilience: dict[str, Any] = field(default_factory=lambda: {"spares": 1, "hostChecks": CHECKS})
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def document(self) -> Object:
        """The resource as a user writes it."""
        endpoint = f"http://object-store.{self.release.system}.svc:9000"
        spec = copy.deepcopy(SPEC)
        spec["optimisation"]["totalTokens"] = 256 * self.steps
        spec["storage"] = {
            "s3": {"endpoint": endpoint, "bucket": "opt", "prefix": self.prefix, "credentialsSecret": LOGIN}
        }
        spec["pods"] = {
            "resources": {"cpu": "500m", "memory": "2Gi", "ephemeralStorage": "1Gi", "sharedMemory": "64Mi"}
        }
        spec["data"]["workers"] = 1
        spec["resilience"] = self.resilience
        spec |= self.more
        metadata = {"name": self.name, "namespace": self.release.namespace}
        return {"apiVersion": "opt-operator.io/v1alpha1", "kind": "OPTTraining", "metadata": metadata, "spec": spec}

    @property
    def path(self) -> str:
        """Of the resource in the API."""
        return f"{GROUP}/namespaces/{self.release.namespace}/opttrainings/{self.name}"

    def apply(self) -> None:
        """`kubectl apply`."""
        self.release.cluster.api.apply(self.document)

    def delete(self) -> None:
        """`kubectl delete`; waits until nothing of it is left in the cluster."""
        self.release.cluster.api.delete(self.path)
        wait_for(lambda: not self.pods(), 90, f"no pod of {self.name}", self.describe)

    def status(self) -> dict[str, Any]:
        """Of the resource."""
        found: dict[str, Any] = self.release.cluster.api.get(self.path).get("status") or {}
        return found

    def pods(self, role: str = "") -> list[Object]:
        """Its pods that are not on their way out."""
        selector = f"{TRAINING}={self.name}" + (f",{ROLE}={role}" if role else "")
        path = f"/api/v1/namespaces/{self.release.namespace}/pods"
        found = self.release.cluster.api.items(path, labelSelector=selector)
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def coordinator(self) -> dict[str, Any] | None:
        """What the newest coordinator says; None while none answers."""
        running = [pod for pod in self.pods("coordinator") if pod["status"].get("podIP")]
        for pod in sorted(running, key=lambda pod: pod["metadata"]["creationTimestamp"], reverse=True):
            client = Client(f"{pod['status']['podIP']}:7070", timeout_s=1)
            try:
                found: dict[str, Any] = json.loads(client.ask("GET", "/status"))
            except (Gone, ValueError):
                continue
            finally:
                client.close()
            return found
        return None

    def until_step(self, step: int, deadline_s: float = 300) -> dict[str, Any]:
        """Waits until a gang at work has done so many steps."""

        def reached() -> dict[str, Any] | None:
            found = self.coordinator()
            return found if found and found["workers"] and found["step"] >= step else None

        found = wait_for(reached, deadline_s, f"step {step} of {self.name}", self.describe)
        assert found is not None
        return found

    def until_phase(self, *phases: str, deadline_s: float = 300) -> dict[str, Any]:
        """Waits until the resource's status says so."""
        wait_for(lambda: self.status().get("phase") in phases, deadline_s, f"{self.name} {phases}", self.describe)
        return self.status()

    def until_recovered(self, attempt: int, deadline_s: float = 240) -> tuple[float, int, int]:
        """Waits for a step beyond all done, in a later attempt; returns seconds, last step before and first after."""
        began, before = time.monotonic(), 0

        def beyond() -> dict[str, Any] | None:
            nonlocal before
            found = self.coordinator()
            if found and found["attempt"] <= attempt:
                before = max(before, found["step"])
            return found if found and found["attempt"] > attempt and found["step"] > before and found["loss"] else None

        found = wait_for(beyond, deadline_s, f"a step of {self.name} after attempt {attempt}", self.describe)
        assert found is not None
        return time.monotonic() - began, before, found["step"]

    def node_of_a_worker(self, *but: str) -> str:
        """A node that a gang's host is on."""
        found = wait_for(self.coordinator, 30, "a word of the coordinator", self.describe)
        assert found is not None
        at_work = {worker["host"] for worker in found["workers"]}
        nodes: list[str] = [pod["spec"]["nodeName"] for pod in self.pods() if pod["metadata"]["name"] in at_work]
        return next(node for node in sorted(nodes, reverse=True) if node not in but)

    def kill_worker(self, rank: int) -> None:
        """`kill -9` in the pod."""
        found = self.until_step(0)
        worker = next(one for one in found["workers"] if one["rank"] == rank)
        script = f"kill -9 {worker['pid']}"
        kubectl(self.release.cluster.kubeconfig, "--namespace", self.release.namespace, "exec", worker["host"],
                "--container", "agent", "--", "sh", "-c", script)  # fmt: skip

    def result(self) -> dict[int, tuple[float | None, list[str]]]:
        """Step -> loss, and digests of all that was saved and is kept: retention may go on while we look."""
        client, found = self._client(), {}
        for one in client.list_objects("opt", prefix=f"{self.prefix}/runs/{self.name}/checkpoints/", recursive=True):
            key = one.object_name or ""
            if not key.endswith("/manifest.json"):
                continue
            try:
                with closing(client.get_object("opt", key)) as answer:
                    manifest = CheckpointManifest.from_bytes(answer.read())
            except S3Error as fault:
                if fault.code == "NoSuchKey":
                    continue
                raise
            found[manifest.step] = (manifest.loss, [entry.digest for entry in manifest.objects])
        return found

    def entries(self) -> list[dict[str, Any]]:
        """The logbook, in order."""
        client, found = self._client(), []
        listed = client.list_objects("opt", prefix=f"{self.prefix}/runs/{self.name}/logbook/", recursive=True)
        for key in sorted(one.object_name or "" for one in listed):
            answer = client.get_object("opt", key)
            found.append(json.loads(answer.read()))
            answer.close()
        return found

    def causes(self) -> list[str]:
        """Causes of the logbook's entries, in order."""
        return [entry["cause"] for entry in self.entries()]

    def until_whole(self, deadline_s: float = 240) -> dict[str, Any]:
        """Waits until a full gang steps and every spare is ready."""
        spares = self.resilience.get("spares", 0)

        def whole() -> dict[str, Any] | None:
            found = self.coordinator()
            if not found or found["phase"] != "running" or len({w["host"] for w in found["workers"]}) < GANG:
                return None
            at_work = {worker["host"] for worker in found["workers"]}
            ready = [a for a in found["agents"] if a["state"] == "Spare" and not a["gone"] and a["host"] not in at_work]
            return found if len(ready) >= spares and found["section"] in STEPPING else None

        found = wait_for(whole, deadline_s, f"a full gang of {self.name} and its spares", self.describe)
        assert found is not None
        return found

    def until_settled(self) -> dict[str, Any]:
        """Waits until the gang is whole and its coordinator stays: one on a node of the gang is moved, once."""

        def settled() -> dict[str, Any] | None:
            found, pods = self.until_whole(), self.pods()
            coordinators = [pod for pod in pods if pod["metadata"]["labels"][ROLE] == "coordinator"]
            if len(coordinators) != 1:
                return None
            (coordinator,) = coordinators
            hosts = {worker["host"] for worker in found["workers"]}
            nodes = {pod["spec"]["nodeName"] for pod in pods if pod["metadata"]["name"] in hosts}
            moved = coordinator["metadata"].get("annotations", {}).get(MADE_IN) == str(found["attempt"])
            return found if moved or coordinator["spec"]["nodeName"] not in nodes else None

        found = wait_for(settled, 240, f"a coordinator of {self.name} that stays", self.describe)
        assert found is not None
        return found

    def _client(self) -> Minio:
        """The store at its Service's address; the login as the trainings have it."""
        api = self.release.cluster.api
        core = f"/api/v1/namespaces/{self.release.system}"
        address = api.get(f"{core}/services/object-store")["spec"]["clusterIP"]
        data = api.get(f"{core}/secrets/object-store-identity")["data"]
        access, secret = (base64.b64decode(data[part]).decode() for part in ("ACCESS_KEY", "SECRET_KEY"))
        return Minio(f"{address}:9000", access_key=access, secret_key=secret, secure=False)

    def describe(self) -> str:
        """Everything that explains a failure."""
        path = f"/api/v1/namespaces/{self.release.namespace}/pods"
        told = [json.dumps(self.status(), indent=1)[:3000]]
        for pod in self.pods():
            name = pod["metadata"]["name"]
            told.append(f"--- {name} on {pod['spec'].get('nodeName')}")
            told.append(describe_pod(self.release.cluster.api, f"{path}/{name}"))
        return "\n".join([*told, "--- operator", self.release.log()])
