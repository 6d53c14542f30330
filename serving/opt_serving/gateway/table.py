"""What a gateway knows: the routes, the endpoints, and how each of them is."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from opt_api.documents.serve_routes import ServeRoutes
from opt_serving.gateway.routing import Endpoint, EndpointState, choose
from opt_serving.gateway.upstream import Broken, Pool, Unreached, ask

LOOK_S = 0.25
"""Between two looks at the routes' files; a change in them is all that is waited for."""
RESOLVE_S = 2.0
READY_PROBE_S, WAITING_PROBE_S = 1.0, 0.25
PROBE_LIMIT_S = 2.0
SILENT_AFTER = 2
"""Probes in a row without an answer after which an endpoint gets no requests."""
UNREACHED_AFTER, AGAIN_S = 3, 0.1
"""Probes in a row that reached no machine, while another endpoint answered one, and it is taken for gone: nobody waits
for its answers any more."""
FORGOTTEN_AFTER = 30
_log = structlog.get_logger("opt_serving.gateway")


@dataclass
class Count:
    """Requests of one revision since it last got its first share."""

    requests: int = 0
    failures: int = 0


class Table:
    """Lives in the event loop.

    Args:
        files: Where routes may stand; the newest generation of all of them counts.
        service: `host:port` that DNS knows all replicas by; None for none.
        instance: How replicas of this model begin their own name; None where they have none.
    """

    def __init__(self, files: Iterable[Path], service: str | None, instance: str | None) -> None:
        self._files, self._service, self._instance = tuple(files), service, instance
        self.routes: ServeRoutes | None = None
        self.endpoints: dict[str, Endpoint] = {}
        self.counts: dict[str, Count] = {}
        self.pool = Pool()
        self._changed = asyncio.Event()
        self._dice = random.Random()
        self._resolved: frozenset[str] = frozenset()
        self._probes: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Follow files, names and endpoints until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_files())
            group.create_task(self._probe())
            if self._service:
                group.create_task(self._resolve(self._service))

    @property
    def weights(self) -> dict[str, int]:
        """Shares by revision."""
        return {route.revision: route.weight for route in self.routes.routes} if self.routes else {}

    @property
    def awake(self) -> bool:
        """Whether any replica takes requests."""
        weights = self.weights
        return any(e.state == "Ready" and e.revision in weights for e in self.endpoints.values())

    def choose(self, tried: set[str]) -> Endpoint | None:
        """See `routing.choose`."""
        return choose(self.endpoints.values(), self.weights, tried, self._dice)

    async def change(self, limit_s: float) -> None:
        """Wait until something is otherwise, or for so long."""
        changed = self._changed
        try:
            await asyncio.wait_for(changed.wait(), limit_s)
        except TimeoutError:
            return

    def count(self, revision: str | None, *, failed: bool) -> None:
        """A request of a revision has ended."""
        found = self.counts.setdefault(str(revision), Count())
        found.requests += 1
        found.failures += failed

    def suspect(self, endpoint: Endpoint, state: EndpointState) -> None:
        """A request has shown that it takes none; the next probe says more."""
        if endpoint.state != "Unreached":
            self._mark(endpoint, state)
        endpoint.next_probe = 0.0

    def take(self, routes: ServeRoutes) -> None:
        """Go by other routes."""
        before = self.weights
        self.routes = routes
        for route in routes.routes:
            if route.weight and not before.get(route.revision):
                self.counts[route.revision] = Count()
        self._arrange()
        self._tell()
        _log.info("routes", generation=routes.generation, weights=self.weights, endpoints=len(self.endpoints))

    def _arrange(self) -> None:
        """Endpoints as routes and DNS name them; who has requests under way stays until they end."""
        listed = {e: route.revision for route in (self.routes.routes if self.routes else ()) for e in route.endpoints}
        for address in {*listed, *self._resolved} - set(self.endpoints):
            self.endpoints[address] = Endpoint(address)
        for address, endpoint in list(self.endpoints.items()):
            endpoint.listed = address in listed
            endpoint.revision = listed.get(address, endpoint.revision)
            if not endpoint.listed and address not in self._resolved and not endpoint.in_flight:
                del self.endpoints[address]
                self.pool.forget(address)

    async def _follow_files(self) -> None:
        seen: dict[Path, bytes] = {}
        while True:
            for path in self._files:
                data = _read(path)
                if data and data != seen.get(path):
                    seen[path] = data
                    self._consider(path, data)
            await asyncio.sleep(LOOK_S)

    def _consider(self, path: Path, data: bytes) -> None:
        try:
            found = ServeRoutes.from_bytes(data)
        except ValueError as fault:
            _log.warning("routes cannot be read", file=str(path), fault=str(fault)[:300])
            return
        if self.routes is None or found.generation > self.routes.generation:
            self.take(found)

    async def _resolve(self, service: str) -> None:
        host, _, port = service.rpartition(":")
        while True:
            try:
                found = await asyncio.get_running_loop().getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
            except OSError:
                found = []
            addresses = {str(entry[4][0]) for entry in found}
            now = frozenset(f"{f'[{a}]' if ':' in a else a}:{port}" for a in addresses)
            if now != self._resolved:
                self._resolved = now
                self._arrange()
            await asyncio.sleep(RESOLVE_S)

    async def _probe(self) -> None:
        while True:
            now = time.monotonic()
            for endpoint in [e for e in self.endpoints.values() if e.next_probe <= now and not e.probing]:
                endpoint.probing = True
                task = asyncio.create_task(self._look(endpoint))
                self._probes.add(task)
                task.add_done_callback(self._probes.discard)
            await asyncio.sleep(0.05)

    async def _look(self, endpoint: Endpoint) -> None:
        try:
            status, body = await ask(endpoint.address, "/health", PROBE_LIMIT_S)
        except Broken as fault:
            self._missed(endpoint, unreached=isinstance(fault, Unreached))
        else:
            endpoint.failures = endpoint.unreached = 0
            endpoint.heard_at = time.monotonic()
            self._mark(endpoint, self._judge(endpoint, status, body))
        finally:
            endpoint.next_probe = time.monotonic() + _wait(endpoint)
            endpoint.probing = False

    def _missed(self, endpoint: Endpoint, *, unreached: bool) -> None:
        endpoint.failures += 1
        endpoint.missed_at = endpoint.missed_at if unreached and endpoint.unreached else time.monotonic()
        endpoint.unreached = endpoint.unreached + 1 if unreached else 0
        if endpoint.unreached >= UNREACHED_AFTER and self._heard_since(endpoint.missed_at):
            self._mark(endpoint, "Unreached")
            self.pool.abandon(endpoint.address)
        elif endpoint.failures >= SILENT_AFTER or endpoint.state != "Ready":
            self._mark(endpoint, "Silent")

    def _heard_since(self, moment: float) -> bool:
        """Whether anybody answered: else it is we who are cut off, or who stood still."""
        return any(other.heard_at > moment for other in self.endpoints.values())

    def _judge(self, endpoint: Endpoint, status: int, body: bytes) -> EndpointState:
        try:
            told = json.loads(body) if body else {}
        except ValueError:
            told = {}
        if self._instance is not None:
            instance = str(told.get("instance") or "")
            if not instance.startswith(self._instance):
                return "Silent"  # a stranger at an address that was ours
            endpoint.revision = instance.removeprefix(self._instance)
        if status == 200:
            return "Ready"
        return "Draining" if told.get("status") == "draining" else "Loading"

    def _mark(self, endpoint: Endpoint, state: EndpointState) -> None:
        if endpoint.state != state:
            endpoint.state = state
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _wait(endpoint: Endpoint) -> float:
    """Seconds until the next probe."""
    if 0 < endpoint.unreached < UNREACHED_AFTER:
        return AGAIN_S
    wait = READY_PROBE_S if endpoint.state == "Ready" else WAITING_PROBE_S
    return min(wait * max(1, endpoint.failures), READY_PROBE_S * FORGOTTEN_AFTER)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
