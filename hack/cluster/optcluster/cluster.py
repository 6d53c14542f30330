"""A running cluster and its nodes: what may be done to them from any process of this machine."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from optcluster import cgroups, controlplane, dns, images, network, node
from optcluster.addresses import Addresses
from optcluster.api import Api, is_true
from optcluster.controlplane import make_identities
from optcluster.errors import ClusterError
from optcluster.init import Layout
from optcluster.machine import Machine
from optcluster.paths import clusters_root
from optcluster.record import Record
from optcluster.wait import wait_for

CONTROL_PLANE_WITHIN_S = 180.0
NODES_WITHIN_S = 120.0
LABELS = {"opt-operator.io/pool": "real"}
DISK = "100Gi"


@dataclass(frozen=True)
class Cluster:
    """A running cluster. Everything is on disk and in the kernel: any process may load and handle it."""

    record: Record

    @classmethod
    def load(cls, name: str) -> Self:
        """The running cluster `name`.

        Raises:
            ClusterError: there is none.
        """
        folder = clusters_root() / name
        if not (folder / "record.json").exists():
            raise ClusterError(f"no cluster {name!r} is running (looked in {folder}): `make cluster-up` starts one")
        return cls(Record.read(folder))

    @property
    def folder(self) -> Path:
        """Everything about the cluster: certificates, kubeconfigs, logs, the nodes' disks."""
        return self.record.folder

    @property
    def addresses(self) -> Addresses:
        """The cluster's addresses."""
        return Addresses(self.record.block)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "admin.kubeconfig"

    @cached_property
    def api(self) -> Api:
        """The API server, as administrator."""
        return Api.from_kubeconfig(self.kubeconfig)

    @property
    def hub(self) -> Machine:
        """The machine of the control plane; the nodes' cables end there."""
        return self.machine("control-plane")

    def node(self, number: int) -> "Node":
        """Real node `number`, counted from 1."""
        return Node(self, number)

    @property
    def nodes(self) -> list["Node"]:
        """All real nodes."""
        return [self.node(number) for number in range(1, self.record.nodes + 1)]

    def machine(self, name: str) -> Machine:
        """The machine called `name`."""
        return Machine(name, self.folder / name, f"{self.record.group}/{name}")

    def start_control_plane(self, flags: Mapping[str, tuple[str, ...]]) -> None:
        """Starts etcd, the API server, the controllers, the scheduler and DNS, and waits for the API server."""
        cgroups.create(self.record.group)
        make_identities(self.folder, self.addresses)
        self.hub.boot(controlplane.layout(self.hub, self.folder), self.record.owner)
        network.build_fabric(self.hub, self.addresses)
        services = controlplane.services(self.folder, self.addresses)
        self.hub.serve(*(replace(one, command=(*one.command, *flags.get(one.name, ()))) for one in services))
        wait_for(
            lambda: self.api.request("GET", "/readyz") == "ok",
            CONTROL_PLANE_WITHIN_S,
            "the API server to be ready",
            lambda: "\n".join(self.hub.log_tail(name) for name in ("init", "etcd", "kube-apiserver")),
        )
        wait_for(lambda: self.api.get("/api/v1/namespaces/kube-system"), 10, "the namespace kube-system")
        self.api.apply(*dns.objects(self.addresses))

    def start_nodes(self, archives: list[Path]) -> None:
        """Starts every node with the images of `archives`, and waits until all are Ready."""
        store = images.store_of([images.pause_archive(), *archives])
        for one in self.nodes:
            one.start(store)
        for one in self.nodes:
            one.wait_ready(NODES_WITHIN_S)
            one.tell_disk()


@dataclass(frozen=True)
class Node:
    """One real node of a cluster: what may happen to a machine in a machine room, at a call."""

    cluster: Cluster
    number: int

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return f"node-{self.number}"

    @property
    def machine(self) -> Machine:
        """The machine behind the node."""
        return self.cluster.machine(self.name)

    def start(self, store: Path | None = None) -> None:
        """Switches the node on: with a fresh disk that holds the images of `store`, or with the disk it had."""
        machine, addresses = self.machine, self.cluster.addresses
        if store:
            (machine.folder / "etc").mkdir(parents=True, exist_ok=True)
            images.copy_store(store, machine.folder / "containerd")
            node.configure(machine, self.number, addresses, self.cluster.folder)
            layout = node.layout(machine, store)
        else:
            layout = Layout.read(machine.folder)
        machine.boot(layout, self.cluster.record.owner)
        network.plug_in(machine, self.number, self.cluster.hub, addresses)
        network.tell_ways(machine, self.number, self.cluster.record.nodes, addresses)
        machine.serve(*node.services(machine, self.number, addresses, LABELS))

    def freeze(self) -> None:
        """Stops everything on the node in mid-step, pods included; connections stay open and silent."""
        self.machine.freeze()

    def thaw(self) -> None:
        """Lets a frozen node go on."""
        self.machine.thaw()

    def cut_off(self) -> None:
        """Takes the network away: everything on the node runs on, alone."""
        network.cut_off(self.cluster.hub, self.number)

    def heal(self) -> None:
        """Gives a cut-off node its network back."""
        network.heal(self.cluster.hub, self.number)

    def kill(self) -> None:
        """Ends the node whole, at once: kubelet, runtime, pods, network. `start` switches it on again."""
        self.machine.kill()

    def is_ready(self) -> bool:
        """Whether the API server lists the node as Ready."""
        return is_true(self.cluster.api.get(f"/api/v1/nodes/{self.name}"), "Ready")

    def wait_ready(self, deadline_s: float = 60.0) -> None:
        """Waits until the node is Ready."""
        wait_for(self.is_ready, deadline_s, f"{self.name} Ready", self.describe)

    def tell_disk(self) -> None:
        """Makes the node offer a disk: its kubelet cannot measure a folder, and pods that want room would wait.

        The kubelet keeps amounts that it does not know in its node's status.
        """
        path = f"/api/v1/nodes/{self.name}/status"
        self.cluster.api.patch(path, {"status": {"capacity": {"ephemeral-storage": DISK}}})

    def wait_not_ready(self, deadline_s: float = 60.0) -> None:
        """Waits until the control plane has noticed that the node is lost."""
        wait_for(lambda: not self.is_ready(), deadline_s, f"{self.name} not Ready", self.describe)

    def describe(self) -> str:
        """Conditions of the node, and the ends of its logs."""
        found = self.cluster.api.get(f"/api/v1/nodes/{self.name}")["status"].get("conditions", [])
        conditions = [f"{entry['type']}={entry['status']}: {entry.get('message', '')}" for entry in found]
        logs = [self.machine.log_tail(name, 8) for name in ("init", "containerd", "kubelet")]
        return "\n".join([*conditions, *logs])
