"""The ASGI application that clients talk to."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import structlog

from opt_serving.gateway.answer import HOP, Answer, Send
from opt_serving.gateway.metrics import Metrics
from opt_serving.gateway.routing import Endpoint
from opt_serving.gateway.table import Table
from opt_serving.gateway.upstream import BadRequest, Broken, Connection, Headers, NotThere, Request, header
from opt_serving.server.keys import Keys

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]

OPEN_PATHS = frozenset({"/", "/health", "/metrics", "/version", "/docs", "/openapi.json"})
NOT_NOW = frozenset({"draining", "loading"})
"""Codes of a 503 with which a replica sends a request away untouched."""
AGAIN_S = 0.1
MAX_LOST = 3
"""Replicas that one request may be lost with: it may be what kills them."""
ERROR_EVENT = b'data: {"error"'
_log = structlog.get_logger("opt_serving.gateway")


@dataclass(frozen=True)
class Bounds:
    """What a gateway accepts.

    Attributes:
        hold_s: How long a request waits for a replica.
        max_held: How many wait.
        max_body_bytes: Of one request.
        api_keys: File with one key a line; open when None.
    """

    model_name: str
    hold_s: float = 300.0
    max_held: int = 256
    max_body_bytes: int = 4_194_304
    api_keys: Path | None = None


class Refused(Exception):  # noqa: N818 - named by what happened
    """The gateway itself answers, with an error."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Lost(Exception):  # noqa: N818 - named by what happened
    """A replica that had the request gave no answer."""


class ClientGone(Exception):  # noqa: N818 - named by what happened
    """The client closed its connection."""


class Proxy:
    """One gateway."""

    def __init__(self, table: Table, bounds: Bounds, metrics: Metrics) -> None:
        self._table, self._bounds, self._metrics = table, bounds, metrics
        self._keys = Keys(bounds.api_keys) if bounds.api_keys else None
        self.in_flight = self.held = 0
        self.leaving = False
        """Told to end: connections are not used again."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        answer = Answer(send, close=self.leaving)
        try:
            self._check_key(scope)
            if await self._own(scope, answer):
                return
            request = _request(scope, await self._body(receive))
            await _unless_gone(receive, self._forward(request, answer))
        except Refused as fault:
            await answer.error(fault.status, str(fault), fault.code)
        except BadRequest as fault:
            await answer.error(400, str(fault), "bad_request")
        except ClientGone:
            self._metrics.gone()

    async def _own(self, scope: Scope, answer: Answer) -> bool:
        """What a gateway says itself: how it is, and which model sleeps here."""
        if scope["path"] == "/health":
            routed = self._table.routes is not None
            await answer.document(200 if routed else 503, {"status": self.state, "model": self._bounds.model_name})
            return True
        if scope["path"] == "/v1/models" and scope["method"] == "GET" and not self._table.awake and self._table.routes:
            await answer.document(200, {"object": "list", "data": [self._card()]})
            return True
        return False

    @property
    def state(self) -> str:
        """In a word."""
        if self._table.routes is None:
            return "starting"
        return "ready" if self._table.awake else "loading" if self._table.routes.replicas else "asleep"

    def _card(self) -> dict[str, Any]:
        routes = self._table.routes
        first = max(routes.routes, key=lambda r: r.weight, default=None) if routes else None
        return {
            "id": self._bounds.model_name, "object": "model", "owned_by": "opt-operator",
            "root": first.uri if first else None, "revision": first.digest if first else None,
        }  # fmt: skip

    async def _forward(self, request: Request, answer: Answer) -> None:
        """Try endpoints until one has answered."""
        tried: set[str] = set()
        lost = 0
        until = time.monotonic() + self._bounds.hold_s
        while True:
            endpoint = await self._endpoint(tried, until)
            self.in_flight += 1
            endpoint.in_flight += 1
            try:
                if await self._try(
                    endpoint, request, answer, last=self._table.choose({*tried, endpoint.address}) is None
                ):
                    return
            except Lost as fault:
                lost += 1
                if lost >= MAX_LOST:
                    raise Refused(
                        502, f"{lost} replicas were lost with this request: {fault}", "replica_lost"
                    ) from fault
            finally:
                self.in_flight -= 1
                endpoint.in_flight -= 1
            tried.add(endpoint.address)
            self._metrics.retried()

    async def _endpoint(self, tried: set[str], until: float) -> Endpoint:
        """A ready endpoint; waits for one."""
        if (found := self._table.choose(tried)) is not None:
            return found
        if self.held >= self._bounds.max_held:
            raise Refused(429, f"{self.held} requests wait for a replica already", "queue_full")
        self.held += 1
        try:
            while (left := until - time.monotonic()) > 0:
                await self._table.change(min(left, AGAIN_S) if tried else left)
                tried.clear()
                if (found := self._table.choose(tried)) is not None:
                    return found
        finally:
            self.held -= 1
        raise Refused(503, f"no replica took the request within {self._bounds.hold_s:g} s ({self.state})", self.state)

    async def _try(self, endpoint: Endpoint, request: Request, answer: Answer, *, last: bool) -> bool:
        """Whether the client has its answer; False where another endpoint may give it."""
        try:
            connection, head = await self._send(endpoint, request)
        except Broken as fault:
            _log.info("no answer", endpoint=endpoint.address, fault=str(fault))
            self._table.suspect(endpoint, "Silent")
            if not isinstance(fault, NotThere):
                raise Lost(str(fault)) from fault
            return False
        try:
            if head.status_code in (503, 429):
                body = b"".join([part async for part in connection.body()])
                if _not_now(head.status_code, body) or (head.status_code == 429 and not last):
                    if head.status_code == 503:
                        self._table.suspect(endpoint, "Draining")
                    return False
                await answer.whole(head, body, endpoint.revision)
                self._ended(endpoint, head.status_code)
                return True
            await self._pass_on(endpoint, connection, head, answer)
        except Broken as fault:
            if not answer.begun:
                raise Lost(str(fault)) from fault
            await answer.broken(f"the replica was lost: {fault}")
            self._metrics.broken()
        finally:
            self._table.pool.give_back(endpoint.address, connection)
        return True

    async def _send(self, endpoint: Endpoint, request: Request) -> tuple[Connection, h11.Response]:
        """A connection that was idle may have been closed meanwhile: then once more on a new one."""
        connection = await self._table.pool.take(endpoint.address)
        try:
            return connection, await connection.send(request)
        except Broken:
            self._table.pool.drop(endpoint.address, connection)
            if not connection.used or endpoint.state == "Unreached":
                raise
        except BaseException:
            self._table.pool.drop(endpoint.address, connection)
            raise
        connection = await self._table.pool.take(endpoint.address, fresh=True)
        try:
            return connection, await connection.send(request)
        except BaseException:
            self._table.pool.drop(endpoint.address, connection)
            raise

    async def _pass_on(self, endpoint: Endpoint, connection: Connection, head: h11.Response, answer: Answer) -> None:
        failed = False
        parts = connection.body()
        first = await anext(parts, b"")
        await answer.begin(head, endpoint.revision)
        await answer.part(first)
        async for part in parts:
            failed = failed or ERROR_EVENT in part
            await answer.part(part)
        await answer.end()
        self._ended(endpoint, head.status_code, failed=failed or ERROR_EVENT in first)

    def _ended(self, endpoint: Endpoint, status: int, *, failed: bool = False) -> None:
        self._table.count(endpoint.revision, failed=failed or (status >= 500 and status != 503))
        self._metrics.answered(endpoint.revision, status)

    def _check_key(self, scope: Scope) -> None:
        if self._keys is None or scope["path"] in OPEN_PATHS:
            return
        kind, _, key = header(scope["headers"], b"authorization").decode("latin-1").partition(" ")
        if kind.lower() != "bearer" or not self._keys.allow(key.strip()):
            raise Refused(401, "Authorization: no valid API key; send `Authorization: Bearer KEY`", "invalid_api_key")

    async def _body(self, receive: Receive) -> bytes:
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._bounds.max_body_bytes:
                raise Refused(413, f"body: larger than {self._bounds.max_body_bytes} bytes", "body_too_large")
            if not message.get("more_body"):
                return b"".join(parts)


async def _unless_gone(receive: Receive, work: Awaitable[None]) -> None:
    """Do it, unless the client closes its connection first: then the replica's slot is free again."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        working.result()
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _not_now(status: int, body: bytes) -> bool:
    try:
        return status == 503 and json.loads(body)["error"]["code"] in NOT_NOW
    except (ValueError, KeyError, TypeError):
        return False


def _target(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string") or b""
    return (raw + (b"?" + query if query else b"")).decode("latin-1")


def _request(scope: Scope, body: bytes) -> Request:
    onward: Headers = [(k, v) for k, v in scope["headers"] if k.lower() not in HOP]
    if not header(onward, b"host"):
        onward.append((b"host", b"replica"))
    if body or scope["method"] not in ("GET", "HEAD"):
        onward.append((b"content-length", str(len(body)).encode()))
    return Request(scope["method"], _target(scope), onward, body)
