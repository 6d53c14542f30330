"""A gateway process before real servers, and its routes in a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from opt_api.documents.serve_routes import Route, ServeRoutes
from support.processes import free_ports, running
from support.served_models import Server

INSTANCE = "team/model/"


@dataclass
class Gateway(Server):
    """A running gateway; clients ask it as they ask a server."""

    admin: str = ""
    file: Path = field(default_factory=Path)
    generation: int = 0

    def route(self, *routes: tuple[str, int, list[Server]], replicas: int = 1) -> None:
        """Write (revision, weight, servers) where the gateway looks."""
        self.generation += 1
        made = tuple(
            Route(revision=name, weight=weight, endpoints=tuple(s.url.removeprefix("http://") for s in servers),
                  uri="s3://bucket/export", step=7)
            for name, weight, servers in routes
        )  # fmt: skip
        document = ServeRoutes(generation=self.generation, model_name="tiny", replicas=replicas, routes=made)
        fresh = self.file.with_suffix(".new")
        fresh.write_bytes(document.to_bytes())
        fresh.rename(self.file)

    def status(self) -> dict[str, Any]:
        """What the operator reads."""
        found: dict[str, Any] = requests.get(f"{self.admin}/status", timeout=10).json()
        return found


@contextmanager
def replica(folder: Path, revision: str, *, instance: str = INSTANCE, **environment: str) -> Iterator[Server]:
    """Run a paced server to the end of the block."""
    (port,) = free_ports(1)
    url, log = f"http://127.0.0.1:{port}", folder / f"{revision}.log"
    command = [sys.executable, str(Path(__file__).with_name("paced_server.py")), str(port)]
    variables = {**os.environ, "OPT_SERVE_INSTANCE": f"{instance}{revision}", **environment}
    with running(command, log, lambda: _listens(url), environment=variables, deadline_s=60) as process:
        yield Server(url, process.pid, log)


@contextmanager
def gateway(folder: Path, *options: str, instance: str | None = INSTANCE) -> Iterator[Gateway]:
    """Run a gateway to the end of the block."""
    port, admin = free_ports(2)
    file, log = folder / "routes.json", folder / "gateway.log"
    command = [
        sys.executable, "-m", "opt_serving.gateway", "--host", "127.0.0.1", "--port", str(port), "--admin-port",
        str(admin), "--routes", str(folder / "absent.json"), "--routes", str(file), "--model-name", "tiny", *options,
        *(["--instance", instance] if instance else []),
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running(command, log, lambda: _listens(url), environment=dict(os.environ), deadline_s=60) as process:
        yield Gateway(url, process.pid, log, admin=f"http://127.0.0.1:{admin}", file=file)


def _listens(url: str) -> bool:
    try:
        requests.get(f"{url}/health", timeout=5)
    except requests.RequestException:
        return False
    return True
