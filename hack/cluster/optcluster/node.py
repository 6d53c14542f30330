"""A real node: containerd, kubelet and kube-proxy with everything of their own, as services of one machine."""

import json
from pathlib import Path
from typing import Any

from optcluster import kubeconfig, programs
from optcluster.addresses import DOMAIN, Addresses
from optcluster.controlplane import NODE_GRACE_S
from optcluster.images import PAUSE, shared_layers
from optcluster.init import Layout, Service
from optcluster.machine import Machine
from optcluster.pki import Authority

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CNI_BINARIES = "/usr/lib/cni"
# folders that programs of a node name in their source, so that every node must find its own behind the same path
OWN_FOLDERS = {
    "/var/lib/kubelet": "kubelet",
    "/var/lib/containerd": "containerd",
    "/var/lib/cni": "cni",
    "/var/log": "log",
}
STATUS_EVERY_S = 2
UNUSED_SNAPSHOTTERS = ("blockfile", "btrfs", "devmapper", "erofs", "zfs")


def layout(machine: Machine, store: Path) -> Layout:
    """What the node looks like from inside: fresh /run as after a boot, its own state, and the layers of its images."""
    own = {path: str(machine.folder / name) for path, name in OWN_FOLDERS.items()}
    for source in own.values():
        Path(source).mkdir(parents=True, exist_ok=True)
    layers = {f"/var/lib/containerd/{path}": layer for path, layer in shared_layers(store).items()}
    return Layout(machine.name, machine.group, empty=("/run", "/var/lib"), own=own | layers)


def configure(machine: Machine, number: int, addresses: Addresses, shared: Path) -> None:
    """Writes the node's identity and the configuration of its programs; `shared` holds the authority."""
    authority, folder = Authority(shared / "pki"), machine.folder / "etc"
    hosts = (machine.name, addresses.node(number))
    pair = authority.issue(machine.name, f"system:node:{machine.name}", "system:nodes", hosts)
    kubeconfig.write(folder / "kubelet.kubeconfig", addresses.api_url, authority, pair)
    (folder / "cni").mkdir(exist_ok=True)
    _write(folder / "cni" / "10-pods.conflist", _cni(number, addresses))
    _write(folder / "kubelet.json", _kubelet(machine, authority, addresses))
    _write(folder / "kube-proxy.json", _kube_proxy(machine, shared, addresses))
    (folder / "containerd.toml").write_text(_containerd(folder))


def services(machine: Machine, number: int, addresses: Addresses, labels: dict[str, str]) -> list[Service]:
    """The programs of the node."""
    folder = machine.folder / "etc"
    containerd = programs.find("containerd")
    # containerd looks its shim up on the PATH
    with_shim = {"PATH": f"{containerd.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    kubelet = [
        str(programs.find("kubelet")), f"--config={folder / 'kubelet.json'}",
        f"--kubeconfig={folder / 'kubelet.kubeconfig'}", f"--hostname-override={machine.name}",
        f"--node-ip={addresses.node(number)}", "--cert-dir=/var/lib/kubelet/pki",
        "--node-labels=" + ",".join(f"{name}={value}" for name, value in labels.items()),
    ]  # fmt: skip
    return [
        Service("containerd", (str(containerd), f"--config={folder / 'containerd.toml'}"), with_shim),
        Service("kubelet", tuple(kubelet)),
        Service("kube-proxy", (str(programs.find("kube-proxy")), f"--config={folder / 'kube-proxy.json'}")),
    ]


def _kubelet(machine: Machine, authority: Authority, addresses: Addresses) -> dict[str, Any]:
    pair = authority.pair_of(machine.name)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority.pair.cert)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pair.cert),
        "tlsPrivateKeyFile": str(pair.key),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{machine.group}/pods",
        "providerID": f"optcluster://{machine.group}/{machine.name}",  # all nodes share one machine's serial number
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,  # it cannot read the file system of a folder that is bound in
        "clusterDNS": [addresses.dns_service],
        "clusterDomain": DOMAIN,
        "resolvConf": "",  # names outside the cluster are answered "no such name" by CoreDNS, at once
        "nodeStatusUpdateFrequency": f"{STATUS_EVERY_S}s",
        "nodeLeaseDurationSeconds": NODE_GRACE_S,
        "syncFrequency": "10s",
        # several nodes share one disk: how full it is says nothing about a node
        "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%", "memory.available": "50Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }


def _kube_proxy(machine: Machine, shared: Path, addresses: Addresses) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(shared / "proxy.kubeconfig")},
        "hostnameOverride": machine.name,
        "mode": "nftables",
        "clusterCIDR": addresses.pods,
        # the limits of connection tracking belong to the whole machine: leave them
        "conntrack": {"maxPerCore": 0, "min": 0},
        "nftables": {"syncPeriod": "30s", "minSyncPeriod": "100ms"},
    }


def _cni(number: int, addresses: Addresses) -> dict[str, Any]:
    """Point-to-point links, not a bridge: all traffic then crosses the node's rules, without br_netfilter."""
    ranges = [[{"subnet": addresses.node_pods(number)}]]
    ipam = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": ipam}]}


def _containerd(folder: Path) -> str:
    cni, runc = folder / "cni", programs.find("runc")
    return f"""version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = {json.dumps([f"io.containerd.snapshotter.v1.{name}" for name in UNUSED_SNAPSHOTTERS])}
[grpc]
address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{CNI_BINARIES}"]
conf_dir = "{cni}"
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"""


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1))
