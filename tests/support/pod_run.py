"""A training in pods without an operator: the contract of docs/operator.md, written out by hand."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import yaml
from minio import Minio

from opt_api.documents.manifests import CheckpointManifest
from opt_api.documents.plan import Plan
from opt_api.resolve import resolve
from opt_api.resources import OPTTraining
from opt_runtime.wire import Client, Gone
from optcluster import images, role_images
from optcluster.api import Object
from optcluster.cluster import Cluster
from optcluster.minio import S3Server
from optcluster.wait import wait_for
from support.cluster import describe_pod, kubectl, wait_pod

SECRET = "object-store-credentials"  # a name, no credential
STEPS = 600
SPEC: dict[str, Any] = {
    "model": {"preset": "custom", "layers": 2, "heads": 2, "hiddenSize": 32, "maxPositions": 32},
    "data": {
        "sources": [{"name": "licences", "uri": "file:///usr/share/common-licenses", "format": "text"}],
        "tokenizer": {"train": {"vocabularySize": 512, "sampleBytes": 1_000_000}},
        "sequenceLength": 32,
        "validation": {"fraction": 0.1},
    },
    "optimisation": {"learningRate": 1e-3, "batchTokens": 256, "totalTokens": 256 * STEPS, "warmupTokens": 2560},
    "parallelism": {"hosts": 2, "device": "cpu"},
    "precision": {"compute": "float32"},
    "checkpointing": {"interval": {"steps": 50}, "export": False},
    "evaluation": {"intervalSteps": 600, "maxBatches": 2},
    "pods": {"resources": {"memory": "2Gi", "sharedMemory": "64Mi"}},
}
STRICT = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


@dataclass
class PodRun:
    """One training's objects in a namespace, and questions to them.

    Attributes:
        cluster: Where.
        namespace: Of everything; with Pod Security `restricted`.
        s3: The object store.
        bucket: In it; made by `prepare`.
        hosts: Name of each host -> name of its node.
    """

    cluster: Cluster
    namespace: str
    s3: S3Server
    bucket: str
    name: str = "small"
    dataset: str = ""
    hosts: dict[str, str] = field(default_factory=dict)

    @property
    def resource(self) -> dict[str, Any]:
        """The training as a user writes it."""
        storage = {"s3": {"endpoint": self.s3.url, "bucket": self.bucket, "prefix": "t", "credentialsSecret": SECRET}}
        kind = {"apiVersion": "opt-operator.io/v1alpha1", "kind": "OPTTraining"}
        return {**kind, "metadata": {"name": self.name}, "spec": {**SPEC, "storage": storage}}

    @property
    def plan(self) -> Plan:
        """What the coordinator and the workers get."""
        return resolve(OPTTraining.model_validate(self.resource))

    @property
    def store_url(self) -> str:
        """The store as pods call it."""
        return f"s3://{self.bucket}/t"

    def client(self) -> Minio:
        """The store from this machine."""
        place = self.s3.address.removeprefix("http://")
        return Minio(place, access_key=self.s3.access_key, secret_key=self.s3.secret_key, secure=False)

    def prepare(self) -> None:
        """Bucket, Secret, and the data set by a pod."""
        if not self.client().bucket_exists(self.bucket):
            self.client().make_bucket(self.bucket)
        login = {"AWS_ACCESS_KEY_ID": self.s3.access_key, "AWS_SECRET_ACCESS_KEY": self.s3.secret_key}
        data = {key: base64.b64encode(value.encode()).decode() for key, value in login.items()}
        self._create("secrets", {"metadata": {"name": SECRET}, "data": data})
        text = yaml.safe_dump(self.resource)
        self._create("configmaps", {"metadata": {"name": "spec"}, "data": {"training.yaml": text}})
        command = ["optctl", "dataprep", "/etc/opt/training.yaml", "--store", self.store_url]
        self._create(
            "pods", self.pod("dataprep", "dataprep", [self.container("dataprep", "dataprep", command)], "spec")
        )
        ended = ("Succeeded", "Failed")
        found = wait_pod(
            self.cluster.api, self.namespace, "dataprep", lambda pod: pod["status"]["phase"] in ended, 240, "ended"
        )
        log = self.cluster.api.request("GET", f"/api/v1/namespaces/{self.namespace}/pods/dataprep/log")
        assert found["status"]["phase"] == "Succeeded", log
        self.dataset = json.loads(log.strip().splitlines()[-1])["dataset"]

    def start(self, hosts: dict[str, str]) -> None:
        """The coordinator and these hosts; the first ones fill the gang."""
        plan = {"plan.json": self.plan.to_bytes().decode()}
        self._create("configmaps", {"metadata": {"name": "plan"}, "data": plan})
        ports = [{"name": name, "port": port} for name, port in (("reports", 7070), ("rendezvous", 7071))]
        selector = {"opt-operator.io/role": "coordinator"}
        service = {"selector": selector, "ports": ports, "publishNotReadyAddresses": True}
        self._create("services", {"metadata": {"name": f"{self.name}-coordinator"}, "spec": service})
        self.start_coordinator(next(iter(hosts.values())))
        for name, node in hosts.items():
            self.start_host(name, node)

    def start_coordinator(self, node: str) -> None:
        """The coordinator, with the rendezvous beside it."""
        command = [
            "python3", "-m", "opt_runtime.coordinator", "--plan", "/etc/opt/plan.json", "--store", self.store_url,
            "--rendezvous", f"{self.name}-coordinator:7071", "--listen", "0.0.0.0:7070",
        ]  # fmt: skip
        meeting = ["python3", "-m", "opt_runtime.rendezvous", "--host", "0.0.0.0", "--port", "7071"]
        made = self.pod("coordinator", "coordinator", [self.container("coordinator", "trainer", command)], "plan", node)
        sidecar = self.container("rendezvous", "trainer", meeting) | {"restartPolicy": "Always"}
        made["spec"] |= {"initContainers": [sidecar], "restartPolicy": "OnFailure"}
        self._create("pods", made)

    def start_host(self, name: str, node: str, hardware: str = "") -> None:
        """One host of the gang, or a spare: which, the coordinator decides."""
        command = [
            "python3", "-m", "opt_runtime.agent", "--run", self.name, "--host", name, "--hardware", hardware or node,
            "--domain", node, "--directory", "/tmp/opt", "--coordinator", f"{self.name}-coordinator:7070",
            "--entry", "opt_cli.worker_entry:run", "--workers", "1", "--listen", "$(POD_IP):7072",
        ]  # fmt: skip
        made = self.pod(name, "gang", [self.container("agent", "trainer", command)], "plan", node)
        made["spec"]["restartPolicy"] = "OnFailure"
        self._create("pods", made)
        self.hosts[name] = node

    def container(self, name: str, role: str, command: list[str]) -> Object:
        """A container of a role's image, as strict as it gets."""
        values = {
            "AWS_ENDPOINT_URL": self.s3.url,
            "OPT_STORE_CREDENTIALS_DIR": "/etc/opt-store",
            "OPT_RUN_PLAN": "/etc/opt/plan.json",
            "OPT_RUN_STORE": self.store_url,
            "OPT_RUN_DATASET": self.dataset,
            "OMP_NUM_THREADS": "1",
        }
        env: list[Object] = [{"name": key, "value": value} for key, value in values.items()]
        env.append({"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})
        mounts = {"tmp": "/tmp", "memory": "/dev/shm", "document": "/etc/opt", "login": "/etc/opt-store"}
        return {
            "name": name,
            "image": role_images.ROLES[role].image,
            "imagePullPolicy": "Never",
            "command": command,
            "env": env,
            "securityContext": STRICT,
            "volumeMounts": [{"name": key, "mountPath": path} for key, path in mounts.items()],
        }

    def pod(self, name: str, role: str, containers: list[Object], document: str, node: str | None = None) -> Object:
        """A pod around containers; `document` is the ConfigMap at /etc/opt."""
        labels = {
            "app.kubernetes.io/managed-by": "opt-operator",
            "opt-operator.io/training": self.name,
            "opt-operator.io/role": role,
            "opt-operator.io/attempt": "1",
        }
        spec: dict[str, Any] = {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "containers": containers,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
                {"name": "document", "configMap": {"name": document}},
                {"name": "login", "secret": {"secretName": SECRET}},
            ],
        }
        if node:
            spec["nodeSelector"] = {"kubernetes.io/hostname": node}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}

    def status(self) -> dict[str, Any] | None:
        """What the coordinator says, asked at its pod's address; None while it does not answer."""
        found = self.cluster.api.get(f"/api/v1/namespaces/{self.namespace}/pods/coordinator")
        address = found.get("status", {}).get("podIP")
        if not address:
            return None
        client = Client(f"{address}:7070", timeout_s=3)
        try:
            answer: dict[str, Any] = json.loads(client.ask("GET", "/status"))
        except (Gone, ValueError):
            return None
        finally:
            client.close()
        return answer

    def tell(self, path: str, body: dict[str, Any]) -> None:
        """Say something to the coordinator, as the operator does."""
        found = self.cluster.api.get(f"/api/v1/namespaces/{self.namespace}/pods/coordinator")
        client = Client(f"{found['status']['podIP']}:7070", timeout_s=3)
        client.ask("POST", path, json.dumps(body).encode())
        client.close()

    def exec_in(self, pod: str, script: str) -> None:
        """Runs a shell script in a pod's container."""
        kubectl(self.cluster.kubeconfig, "--namespace", self.namespace, "exec", pod, "--", "sh", "-c", script)

    def kill_pod(self, name: str) -> None:
        """Deletes a pod without grace."""
        self.cluster.api.delete(f"/api/v1/namespaces/{self.namespace}/pods/{name}", grace_s=0)

    def checkpoints(self) -> dict[int, tuple[float | None, list[str]]]:
        """Step -> loss, and digests of everything that was saved; of the newest attempt that saved the step."""
        client, found = self.client(), {}
        listed = client.list_objects(self.bucket, prefix=f"t/runs/{self.name}/checkpoints/", recursive=True)
        for key in sorted(one.object_name or "" for one in listed):
            if key.endswith("/manifest.json"):
                answer = client.get_object(self.bucket, key)
                manifest = CheckpointManifest.from_bytes(answer.read())
                answer.close()
                answer.release_conn()
                found[manifest.step] = (manifest.loss, [entry.digest for entry in manifest.objects])
        return found

    def describe(self) -> str:
        """Every pod's state and last words."""
        paths = f"/api/v1/namespaces/{self.namespace}/pods"
        names = [pod["metadata"]["name"] for pod in self.cluster.api.items(paths)]
        return "\n".join(f"--- {name}\n{describe_pod(self.cluster.api, f'{paths}/{name}')}" for name in names)

    def _create(self, kind: str, document: Object) -> None:
        self.cluster.api.create(f"/api/v1/namespaces/{self.namespace}/{kind}", document)


@dataclass
class Watch:
    """Follows a run by what its coordinator says."""

    run: PodRun
    last: dict[str, Any] = field(default_factory=dict)

    def look(self) -> dict[str, Any]:
        """Asks once."""
        status = self.run.status()
        self.last = status or self.last
        return self.last

    def until_step(self, step: int, deadline_s: float = 180) -> dict[str, Any]:
        """Waits until the run has done a step and a gang is at work."""
        return wait_for(
            lambda: (s := self.look()) and s["step"] >= step and s["workers"] and s, deadline_s, f"step {step}",
            lambda: f"{self.last}\n{self.run.describe()}",
        )  # fmt: skip

    def until_attempt(self, attempt: int, deadline_s: float = 120) -> dict[str, Any]:
        """Waits until a later attempt has done a step more than was done before."""
        before = self.last["step"]
        return wait_for(
            lambda: (s := self.look()) and s["attempt"] >= attempt and s["step"] > before and s, deadline_s,
            f"a step after {before} in attempt {attempt}", lambda: f"{self.last}\n{self.run.describe()}",
        )  # fmt: skip

    def until_agent(self, host: str, deadline_s: float = 60) -> None:
        """Waits until a host has reported and its warm parent is ready to be forked."""
        wait_for(
            lambda: any(agent["host"] == host and agent["state"] == "Spare" for agent in self.look().get("agents", [])),
            deadline_s, f"{host} a spare", lambda: f"{self.last}\n{self.run.describe()}",
        )  # fmt: skip

    def until_finished(self, deadline_s: float = 240) -> None:
        """Waits until the coordinator has ended by itself."""
        path = f"/api/v1/namespaces/{self.run.namespace}/pods/coordinator"

        def ended() -> bool:
            self.look()
            return bool(self.run.cluster.api.get(path)["status"]["phase"] in ("Succeeded", "Failed"))

        wait_for(ended, deadline_s, "the end of the run", lambda: f"{self.last}\n{self.run.describe()}")
        assert self.run.cluster.api.get(path)["status"]["phase"] == "Succeeded", self.run.describe()


def give_images(cluster: Cluster, *roles: str) -> None:
    """The roles' images with this checkout's code, on every node; nodes start with the packages of `TRAINING`."""
    for role in roles:
        packages = [] if role in role_images.TRAINING else role_images.archives([role])
        for archive in [*packages, role_images.with_code(role)]:
            for node in cluster.nodes:
                images.load(node.machine, archive)
