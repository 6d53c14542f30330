"""Stores under test: a folder, and a bucket on each of two real S3 servers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opt_store import Store, StoreSettings, open_store
from support.fault_proxy import FaultProxy, fault_proxy
from support.s3 import S3Server, minio_server, seaweedfs_server

MIB = 1 << 20
QUICK = StoreSettings(
    part_bytes=5 * MIB,
    parallel=3,
    stall_timeout_s=1.0,
    part_timeout_s=4.0,
    connect_timeout_s=2.0,
    backoff_s=0.02,
    backoff_limit_s=0.1,
)
"""Small parts, so that a few MiB are many; short waits, so that a stall ends soon."""

SERVERS = {"minio": minio_server, "seaweedfs": seaweedfs_server}


@pytest.fixture(scope="session")
def s3_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], S3Server]]:
    """Starts each server when it is first asked for, and ends it with the run."""
    running: dict[str, tuple[S3Server, object]] = {}

    def get(name: str) -> S3Server:
        if name not in running:
            context = SERVERS[name](tmp_path_factory.mktemp(name))
            running[name] = (context.__enter__(), context)
        return running[name][0]

    yield get
    for _, context in running.values():
        context.__exit__(None, None, None)


@pytest.fixture(params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, s3_servers: Callable[[str], S3Server]) -> S3Server:
    return s3_servers(request.param)


@pytest.fixture
def prefix() -> str:
    """A part of the bucket that no other test uses."""
    return uuid.uuid4().hex


@pytest.fixture
def url(server: S3Server, prefix: str) -> str:
    return f"s3://{server.bucket}/{prefix}"


@pytest.fixture(params=["folder", *sorted(SERVERS)])
def store(request: pytest.FixtureRequest, tmp_path: Path, s3_servers: Callable[[str], S3Server], prefix: str) -> Store:
    if request.param == "folder":
        (tmp_path / "store").mkdir()
        return open_store((tmp_path / "store").as_uri())
    server = s3_servers(request.param)
    return open_on(server, f"s3://{server.bucket}/{prefix}")


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(server.port) as running:
        yield running


@pytest.fixture
def direct(server: S3Server, url: str) -> Store:
    """The store past the proxy, to see what is really there."""
    return open_on(server, url)


@pytest.fixture
def spoiled(server: S3Server, url: str, proxy: FaultProxy) -> Store:
    """The store through the proxy."""
    return open_on(server, url, endpoint=proxy.endpoint)


def open_on(server: S3Server, url: str, *, endpoint: str | None = None, settings: StoreSettings = QUICK) -> Store:
    where = server.settings.model_copy(update={"endpoint": endpoint or server.endpoint})
    return open_store(url, s3=where, credentials=server.credentials, settings=settings)
