"""Stores under test: a folder, and a bucket on each of two real S3 servers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opt_store import Store, open_store
from support.building import before_the_first_test
from support.fault_proxy import FaultProxy, fault_proxy
from support.s3 import S3Server, minio_program, minio_server, seaweedfs_server
from support.store import open_on

SERVERS = {"minio": minio_server, "seaweedfs": seaweedfs_server}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds MinIO before the first test starts."""
    before_the_first_test(session, "integration", Path(__file__).parent, minio_program)


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
