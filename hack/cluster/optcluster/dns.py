"""The cluster's DNS: CoreDNS beside the API server, so that no lost node takes the names away."""

from pathlib import Path
from typing import Any

from optcluster import programs
from optcluster.addresses import DOMAIN, Addresses
from optcluster.init import Service

NAME = "kube-dns"


def service(folder: Path, addresses: Addresses) -> Service:
    """CoreDNS, answering for the cluster and for nothing else.

    A name or address outside the cluster gets "no such name" at once. Without an answer, programs such as gloo, which
    look up host names and reverse names at start, hang for seconds.
    """
    corefile = folder / "Corefile"
    corefile.write_text(
        f"""{DOMAIN} in-addr.arpa ip6.arpa {{
  bind {addresses.control_plane}
  errors
  kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
    kubeconfig {folder / "coredns.kubeconfig"}
    pods insecure
    ttl 5
  }}
  cache 1
}}
. {{
  bind {addresses.control_plane}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""
    )
    return Service("coredns", (str(programs.find("coredns")), "-conf", str(corefile)))


def objects(addresses: Addresses) -> list[dict[str, Any]]:
    """The Service, what stands behind it, and the right of CoreDNS to read what it answers for."""
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "opt-coredns"}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "opt-coredns"}
    rbac = "rbac.authorization.k8s.io/v1"
    ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
    return [
        {"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": "opt-coredns"}, "rules": rules},
        {
            "apiVersion": rbac,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "opt-coredns"},
            "roleRef": role,
            "subjects": [user],
        },
        *outside_service(NAME, "kube-system", addresses, {name: (53, kind) for name, kind in ports},
                         cluster_ip=addresses.dns_service),
    ]  # fmt: skip


def outside_service(
    name: str, namespace: str, addresses: Addresses, ports: dict[str, tuple[int, str]], cluster_ip: str | None = None
) -> list[dict[str, Any]]:
    """A Service for something that runs beside the API server, not in a pod; `ports`: name -> number and protocol."""
    listed = [{"name": port, "port": number, "protocol": kind} for port, (number, kind) in ports.items()]
    fixed = {"clusterIP": cluster_ip} if cluster_ip else {}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"ports": listed, **fixed},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-outside",
                "namespace": namespace,
                "labels": {
                    "kubernetes.io/service-name": name,
                    "endpointslice.kubernetes.io/managed-by": "optcluster",
                },
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [addresses.control_plane], "conditions": {"ready": True}}],
            "ports": listed,
        },
    ]
