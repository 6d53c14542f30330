"""`python -m opt_serving.gateway`: one gateway, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from opt_serving.gateway.admin import Admin
from opt_serving.gateway.metrics import Metrics
from opt_serving.gateway.proxy import Bounds, Proxy
from opt_serving.gateway.table import Table

_log = structlog.get_logger("opt_serving.gateway")


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to us: who drains still answers."""
        yield


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and run; 1 when a port is taken."""
    given = _parser().parse_args(arguments)
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.stderr))
    return asyncio.run(run(given))


async def run(given: argparse.Namespace) -> int:
    """Both ports, the table, and the end."""
    table = Table(given.routes, given.replicas, given.instance)
    bounds = Bounds(given.model_name, given.hold, given.max_held, given.max_body_bytes, given.api_keys)
    metrics = Metrics(given.model_name)
    proxy = Proxy(table, bounds, metrics)
    admin = Admin(table, proxy, metrics)
    servers = [_server(proxy, given.host, given.port), _server(admin, given.host, given.admin_port)]
    told = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, told.set)
    following = asyncio.create_task(table.run())
    serving = [asyncio.create_task(server.serve()) for server in servers]
    waiting = asyncio.create_task(told.wait())
    await asyncio.wait({waiting, following, *serving}, return_when=asyncio.FIRST_COMPLETED)
    if told.is_set():
        await _drain(proxy, given.linger, given.drain)
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*serving, return_exceptions=True)
    for task in (following, waiting):
        task.cancel()
    await asyncio.gather(following, waiting, return_exceptions=True)
    return 0 if told.is_set() else 1


async def _drain(proxy: Proxy, linger_s: float, drain_s: float) -> None:
    """Go on for as long as somebody may still send requests here; then until the open ones have ended."""
    proxy.leaving = True
    _log.info("leaving", open=proxy.in_flight, held=proxy.held)
    await asyncio.sleep(linger_s)
    until = time.monotonic() + drain_s
    while proxy.in_flight + proxy.held and time.monotonic() < until:  # noqa: ASYNC110 - as the server's own drain
        await asyncio.sleep(0.05)


def _server(app: Any, host: str, port: int) -> uvicorn.Server:
    config = uvicorn.Config(
        app, host=host, port=port, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=1,
    )  # fmt: skip
    return _Server(config)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="opt_serving.gateway", description=__doc__)
    add = parser.add_argument
    add("--host", default="0.0.0.0", help="address to listen at")  # noqa: S104 - a pod's own address
    add("--port", type=int, required=True, help="for clients")
    add("--admin-port", type=int, required=True, help="for the operator, the kubelet and scrapers")
    add("--routes", type=Path, action="append", required=True, help="file with a ServeRoutes; may be repeated")
    add("--replicas", help="host:port that DNS knows all replicas by")
    add("--instance", help="how replicas of this model begin their own name")
    add("--model-name", required=True, help="name in the API")
    add("--hold", type=float, default=300.0, help="seconds that a request waits for a replica")
    add("--max-held", type=int, default=256, help="requests that wait")
    add("--max-body-bytes", type=int, default=4_194_304)
    add("--api-keys", type=Path, help="file with one API key a line; open to all if not given")
    add("--linger", type=float, default=5.0, help="seconds after SIGTERM in which requests are still taken")
    add("--drain", type=float, default=300.0, help="seconds after that for open requests")
    return parser


if __name__ == "__main__":
    sys.exit(main())
