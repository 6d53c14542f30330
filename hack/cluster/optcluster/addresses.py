"""The addresses of a cluster: one /16 for each, chosen so that it meets no route of this machine."""

import ipaddress
import json
import subprocess
from dataclasses import dataclass

from optcluster.errors import ClusterError

FIRST_BLOCK, LAST_BLOCK = 200, 239
MAX_NODES = 60
API_PORT = 6443
DOMAIN = "cluster.local"


@dataclass(frozen=True)
class Addresses:
    """Every address of the cluster whose /16 is 10.`block`.0.0.

    The first /24 joins the machine, the control plane and the nodes; each node has a /24 for its pods.
    """

    block: int

    @property
    def everything(self) -> str:
        """The whole block."""
        return f"10.{self.block}.0.0/16"

    @property
    def host(self) -> str:
        """This machine's own address in the cluster's network."""
        return f"10.{self.block}.0.1"

    @property
    def control_plane(self) -> str:
        """The API server, etcd, the controllers, DNS and MinIO."""
        return f"10.{self.block}.0.2"

    @property
    def pods(self) -> str:
        """The range of all pods."""
        return f"10.{self.block}.64.0/18"

    @property
    def services(self) -> str:
        """The range of all Services."""
        return f"10.{self.block}.128.0/20"

    @property
    def api_service(self) -> str:
        """The Service `default/kubernetes`."""
        return f"10.{self.block}.128.1"

    @property
    def dns_service(self) -> str:
        """The Service `kube-system/kube-dns`."""
        return f"10.{self.block}.128.10"

    @property
    def api_url(self) -> str:
        """The API server's address as a URL."""
        return f"https://{self.control_plane}:{API_PORT}"

    def node(self, number: int) -> str:
        """The address of node `number`, counted from 1."""
        return f"10.{self.block}.0.{10 + number}"

    def node_pods(self, number: int) -> str:
        """The range of the pods of node `number`."""
        return f"10.{self.block}.{64 + number}.0/24"


def routes_in_use() -> list[ipaddress.IPv4Network]:
    """The destinations of this machine's routes, default routes left out."""
    listed = subprocess.run(
        ["ip", "-4", "-j", "route", "show", "table", "all"], check=True, capture_output=True, text=True
    ).stdout
    destinations = (route.get("dst", "default") for route in json.loads(listed or "[]"))
    return [ipaddress.IPv4Network(dst, strict=False) for dst in destinations if dst != "default"]


def choose_block(in_use: list[ipaddress.IPv4Network], taken: set[int]) -> int:
    """The first block that no route overlaps and no other cluster has taken.

    Raises:
        ClusterError: every block is in use.
    """
    for block in range(FIRST_BLOCK, LAST_BLOCK + 1):
        network = ipaddress.IPv4Network(f"10.{block}.0.0/16")
        if block not in taken and not any(network.overlaps(other) for other in in_use):
            return block
    raise ClusterError(
        f"networks 10.{FIRST_BLOCK}.0.0/16 to 10.{LAST_BLOCK}.0.0/16 are all in use on this machine; "
        "see `ip route`, and take unneeded clusters down"
    )
