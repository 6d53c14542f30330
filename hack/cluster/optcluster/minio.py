"""An S3 server that the cluster's pods and this machine reach alike: MinIO beside the API server."""

import secrets
from dataclasses import dataclass
from urllib.request import urlopen

from optcluster import programs
from optcluster.addresses import DOMAIN
from optcluster.cluster import Cluster
from optcluster.dns import outside_service
from optcluster.init import Service
from optcluster.wait import wait_for

NAMESPACE, PORT = "storage", 9000


@dataclass(frozen=True)
class S3Server:
    """Where the server is, and how to log in. `url` is for pods, by name; `address` for this machine and pods."""

    url: str
    address: str
    access_key: str
    secret_key: str


def start(cluster: Cluster) -> S3Server:
    """Starts MinIO with fresh credentials and the Service `storage/minio`, and waits until it answers."""
    programs.provide(("minio",))
    address = f"{cluster.addresses.control_plane}:{PORT}"
    server = S3Server(
        f"http://minio.{NAMESPACE}.svc.{DOMAIN}:{PORT}", f"http://{address}", "opt", secrets.token_hex(16)
    )
    data = cluster.folder / "minio"
    data.mkdir(mode=0o700, exist_ok=True)
    login = {"MINIO_ROOT_USER": server.access_key, "MINIO_ROOT_PASSWORD": server.secret_key}
    quiet = {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "HOME": str(data)}
    command = (str(programs.find("minio")), "server", "--address", address, str(data / "disk"))
    cluster.hub.serve(Service("minio", command, login | quiet))
    cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    cluster.api.apply(*outside_service("minio", NAMESPACE, cluster.addresses, {"s3": (PORT, "TCP")}))
    wait_for(lambda: _is_up(cluster, server), 60, "MinIO ready", lambda: cluster.hub.log_tail("minio"))
    return server


def _is_up(cluster: Cluster, server: S3Server) -> bool:
    """MinIO says it is ready before it is (a bucket made too early takes 60 s), and prints its address when it is."""
    if urlopen(f"{server.address}/minio/health/ready", timeout=2).status != 200:
        return False
    return "API: " in cluster.hub.log("minio")
