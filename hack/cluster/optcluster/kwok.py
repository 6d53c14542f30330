"""Nodes that exist in the API alone, by KWOK: hundreds of them, with any labels and faults to order."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from optcluster import build, network, programs
from optcluster.api import Object, is_true
from optcluster.cluster import Cluster
from optcluster.controlplane import NODE_GRACE_S
from optcluster.families import FAMILIES
from optcluster.init import Service
from optcluster.wait import wait_for

POOL = "kwok.x-k8s.io/node"
FAKE_TAINT = {"key": POOL, "value": "fake", "effect": "NoSchedule"}
NOT_READY_LABEL = "node-not-ready.stage.kwok.x-k8s.io"
POD_FAILS_LABEL = "pod-container-running-failed.stage.kwok.x-k8s.io"
# what nodes and pods do by themselves, and the faults that the labels above switch on: KWOK's own stages
STAGES = ("node/fast", "node/heartbeat-with-lease", "node/chaos", "pod/fast", "pod/chaos")
DEFAULT_CAPACITY = {"cpu": "96", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": "8"}


@dataclass(frozen=True)
class FakeNodes:
    """Fake nodes of a cluster.

    Attributes:
        pool: Of these; each pool has a KWOK of its own, so that a pool can fall silent as one (`fall_silent`).
        addresses: Last part of the range of the addresses that their pods get: 10.BLOCK.`addresses`.
        lease_s: Duration of a node's Lease, which is renewed four times in that time.
    """

    cluster: Cluster
    pool: str = "fake"
    addresses: str = "127.0/24"  # the last of the pods' range, beyond the last real node
    lease_s: int = NODE_GRACE_S

    @property
    def mark(self) -> dict[str, str]:
        """The label by which KWOK knows them."""
        return {POOL: self.pool}

    @property
    def cidr(self) -> str:
        """Where their pods' addresses are from."""
        return f"10.{self.cluster.addresses.block}.{self.addresses}"

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

    def fall_silent(self) -> None:
        """All nodes of the pool at the same moment: nobody renews their leases any more. `enable` ends it."""
        self.cluster.hub.stop_service(self._service().name)

    def answer(self, name: str, *command: str) -> None:
        """Runs a program on the control plane's machine that answers at every address of the fake nodes' pods."""
        self.lead_to_hub()
        self.cluster.hub.serve(Service(name, command, dict(os.environ)))

    def lead_to_hub(self) -> None:
        """Makes the addresses of the pool's pods the control plane's own; they go away with it."""
        hub, ours = self.cluster.hub, self.cluster.addresses
        hub.inside("ip", "route", "replace", "local", self.cidr, "dev", "lo")
        way = ["ip", "route", "replace", self.cidr, "via", ours.control_plane, "dev", network.host_link(ours)]
        subprocess.run(way, check=True, capture_output=True)

    def add(
        self, name: str, labels: dict[str, str] | None = None, capacity: dict[str, str] | None = None,
        taints: Sequence[Object] = (FAKE_TAINT,),
    ) -> str:  # fmt: skip
        """Adds one fake node, tainted so that only pods that tolerate `FAKE_TAINT` go there; returns its name."""
        resources = DEFAULT_CAPACITY | (capacity or {})
        node: Object = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **self.mark, **(labels or {})}},
            "spec": {"taints": list(taints)},
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
        self._label(name, {POOL: "lost"})

    def recover(self, name: str) -> None:
        """Ends `fail` and `lose`."""
        self._label(name, {NOT_READY_LABEL: None, **self.mark})

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
        command = (
            str(programs.find("kwok")),
            f"--kubeconfig={self.cluster.folder / 'kwok.kubeconfig'}",
            # by label, since the API server then tells KWOK when a node is no longer one of its own; see `lose`
            f"--manage-nodes-with-label-selector={POOL}={self.pool}",
            "--enable-crds=Stage",
            f"--node-lease-duration-seconds={self.lease_s}",
            f"--cidr={self.cidr}",
        )
        name = "kwok" if self.pool == "fake" else f"kwok-{self.pool}"
        return Service(name, command, {"HOME": str(self.cluster.hub.folder)})
