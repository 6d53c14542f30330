"""Nodes that exist in the API alone, by KWOK: hundreds of them, with any labels and faults to order."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from optcluster import build, programs
from optcluster.api import Object, is_true
from optcluster.cluster import Cluster
from optcluster.controlplane import NODE_GRACE_S
from optcluster.families import FAMILIES
from optcluster.init import Service
from optcluster.wait import wait_for

FAKE = {"kwok.x-k8s.io/node": "fake"}
FAKE_TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
NOT_READY_LABEL = "node-not-ready.stage.kwok.x-k8s.io"
POD_FAILS_LABEL = "pod-container-running-failed.stage.kwok.x-k8s.io"
# what nodes and pods do by themselves, and the faults that the labels above switch on: KWOK's own stages
STAGES = ("node/fast", "node/heartbeat-with-lease", "node/chaos", "pod/fast", "pod/chaos")
DEFAULT_CAPACITY = {"cpu": "96", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": "8"}


@dataclass(frozen=True)
class FakeNodes:
    """The fake nodes of a cluster."""

    cluster: Cluster

    def enable(self) -> None:
        """Starts KWOK with its stages; fine to call again."""
        programs.provide(("kwok",))
        data = build.folder_of(FAMILIES["kwok"]) / "kustomize"
        api = self.cluster.api
        (definition,) = api.apply_file(data / "crd" / "bases" / "kwok.x-k8s.io_stages.yaml")
        path = api.path_of(definition)
        wait_for(lambda: is_true(api.get(path), "Established"), 20, "the CRD Stage established")
        for folder in STAGES:
            self._apply_stages(data / "stage" / folder)
        self.cluster.hub.serve(self._service())

    def add(self, name: str, labels: dict[str, str] | None = None, capacity: dict[str, str] | None = None) -> str:
        """Adds one fake node, tainted so that only pods that tolerate `FAKE_TAINT` go there; returns its name."""
        resources = DEFAULT_CAPACITY | (capacity or {})
        node: Object = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **FAKE, **(labels or {})}},
            "spec": {"taints": [FAKE_TAINT]},
            "status": {"allocatable": resources, "capacity": resources, "phase": "Running"},
        }
        self.cluster.api.create("/api/v1/nodes", node)
        return name

    def remove(self, name: str) -> None:
        """Deletes the node, as a cloud does with a machine it takes back."""
        self.cluster.api.delete(f"/api/v1/nodes/{name}")

    def fail(self, name: str) -> None:
        """Lets the node say that it is not Ready."""
        self._label(name, {NOT_READY_LABEL: "true"})

    def lose(self, name: str) -> None:
        """Lets the node fall silent: its lease runs out, and the control plane sets Ready to Unknown."""
        self._label(name, {"kwok.x-k8s.io/node": "lost"})

    def recover(self, name: str) -> None:
        """Ends `fail` and `lose`."""
        self._label(name, {NOT_READY_LABEL: None, **FAKE})

    def fail_pod(self, namespace: str, pod: str) -> None:
        """Lets a running pod on a fake node end as Failed."""
        change = {"metadata": {"labels": {POD_FAILS_LABEL: "true"}}}
        self.cluster.api.patch(f"/api/v1/namespaces/{namespace}/pods/{pod}", change)

    def is_ready(self, name: str) -> bool:
        """Whether the node is listed as Ready."""
        return is_true(self.cluster.api.get(f"/api/v1/nodes/{name}"), "Ready")

    def _label(self, name: str, labels: Mapping[str, str | None]) -> None:
        self.cluster.api.patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": labels}})

    def _apply_stages(self, folder: Path) -> None:
        for path in sorted(folder.glob("*.yaml")):
            if path.name != "kustomization.yaml":
                self.cluster.api.apply_file(path)

    def _service(self) -> Service:
        block = self.cluster.addresses.block
        command = (
            str(programs.find("kwok")),
            f"--kubeconfig={self.cluster.folder / 'kwok.kubeconfig'}",
            # by label, since the API server then tells KWOK when a node is no longer one of its own; see `lose`
            "--manage-nodes-with-label-selector=kwok.x-k8s.io/node=fake",
            "--enable-crds=Stage",
            f"--node-lease-duration-seconds={NODE_GRACE_S}",
            f"--cidr=10.{block}.127.0/24",  # the last of the pods' range, beyond the last real node
        )
        return Service("kwok", command, {"HOME": str(self.cluster.hub.folder)})
