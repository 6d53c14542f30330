"""Two real S3 servers on the loopback interface: MinIO, and SeaweedFS."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from minio import Minio
from minio.error import MinioException
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from opt_store import S3Credentials, S3Settings
from support.processes import free_ports, running

CLUSTER_TOOLS = Path(__file__).resolve().parents[2] / "hack" / "cluster"
START_S = 60.0


@dataclass(frozen=True)
class S3Server:
    """A server under test, and a bucket on it."""

    name: str
    port: int
    bucket: str
    access_key: str = "test-access-key"
    secret_key: str = field(default="test-secret-key-of-a-server-on-loopback", repr=False)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self) -> S3Settings:
        return S3Settings(endpoint=self.endpoint)

    @property
    def credentials(self) -> S3Credentials:
        return S3Credentials(access_key=self.access_key, secret_key=self.secret_key)

    def plain_client(self) -> Minio:
        """The client as it comes, to look at the server past our own code."""
        return Minio(
            endpoint=f"127.0.0.1:{self.port}",
            access_key=self.access_key,
            secret_key=self.secret_key,
            secure=False,
            region="us-east-1",
            http_client=PoolManager(retries=False, timeout=5.0),
        )

    def is_ready(self) -> bool:
        """Make the bucket as soon as the server answers, and a first object as soon as it can hold one."""
        client = self.plain_client()
        try:
            if not client.bucket_exists(bucket_name=self.bucket):
                client.make_bucket(bucket_name=self.bucket)
            client._execute("PUT", bucket_name=self.bucket, object_name="ready", body=b"ready")
            client.remove_object(bucket_name=self.bucket, object_name="ready")
        except (MinioException, HTTPError):
            return False
        return True


@contextmanager
def minio_server(folder: Path, *, before: Sequence[str] = (), data: Path | None = None) -> Iterator[S3Server]:
    """Run MinIO, built from its pinned source by the test cluster's tools, with its data in `folder`.

    Args:
        folder: Log and data.
        before: Command that the server's command is given to, for example one that gives it a small disk.
        data: Where the data goes instead.
    """
    port, console = free_ports(2)
    server = S3Server("minio", port, "minio-bucket")
    addresses = ["--address", f"127.0.0.1:{port}", "--console-address", f"127.0.0.1:{console}"]
    command: list[str | Path] = [*before, minio_program(), "server", *addresses, data or folder / "data"]
    environment = {
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "MINIO_ROOT_USER": server.access_key,
        "MINIO_ROOT_PASSWORD": server.secret_key,
        "MINIO_BROWSER": "off",
        "GOMAXPROCS": "2",
    }
    with running(command, folder / "log", server.is_ready, environment=environment, deadline_s=START_S):
        yield server


@contextmanager
def seaweedfs_server(
    folder: Path, *, before: Sequence[str] = (), data: Path | None = None, options: Sequence[str] = ()
) -> Iterator[S3Server]:
    """Run SeaweedFS (all its parts in one process) with its data in `folder`; arguments as for `minio_server`."""
    names = ("master", "volume", "filer", "s3")
    ports = dict(zip([*names, *(f"{name}.grpc" for name in names)], free_ports(8), strict=True))
    server = S3Server("seaweedfs", ports["s3"], "seaweedfs-bucket")
    identity = {
        "name": "test",
        "credentials": [{"accessKey": server.access_key, "secretKey": server.secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    target = data or folder / "data"
    target.mkdir(exist_ok=True)
    given = [f"-{name}.port={ports[name]}" for name in names]
    given += [f"-{name}.port.grpc={ports[f'{name}.grpc']}" for name in names]
    given += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={target}", "-s3", f"-s3.config={folder / 's3.json'}"]
    given += ["-s3.autoCreateBucket=false", "-master.volumeSizeLimitMB=256", "-volume.max=100"]
    given += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", "-master.telemetry=false"]
    command: list[str | Path] = [*before, weed_program(), "-logtostderr", "server", *given, *options]
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"], "GOMAXPROCS": "2"}
    try:
        with running(command, folder / "log", server.is_ready, environment=environment, deadline_s=START_S):
            yield server
    finally:
        for port in ports.values():  # it leaves its sockets behind
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()


def minio_program() -> Path:
    """Return MinIO's program, building it first if need be (some minutes, once)."""
    _reach_cluster_tools()
    from optcluster import programs

    programs.provide(("minio",), debian={})
    return programs.find("minio")


def weed_program() -> Path:
    """Return SeaweedFS' program."""
    _reach_cluster_tools()
    from optcluster import store_image

    return store_image.program()


def _reach_cluster_tools() -> None:
    if str(CLUSTER_TOOLS) not in sys.path:
        sys.path.append(str(CLUSTER_TOOLS))
