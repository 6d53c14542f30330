"""What goes back to a client."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import h11

from opt_serving.gateway.upstream import Headers, header

Send = Callable[[dict[str, Any]], Awaitable[None]]

HOP = frozenset({b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailers",
                 b"transfer-encoding", b"upgrade", b"content-length",b"expect"})  # fmt: skip
"""Headers of one connection, not of the request."""
RETRY_AFTER = (b"retry-after", b"2")


class Answer:
    """The head and body of one answer."""

    def __init__(self, send: Send, *, close: bool) -> None:
        self._send, self._close = send, close
        self.begun = False
        self._events = False

    async def begin(self, head: h11.Response, revision: str | None) -> None:
        """The head, as the replica gave it."""
        headers = [(k, v) for k, v in head.headers if k.lower() not in HOP - {b"content-length"}]
        self._events = header(headers, b"content-type").startswith(b"text/event-stream")
        await self._start(head.status_code, [*headers, (b"x-opt-revision", str(revision).encode())])

    async def part(self, data: bytes) -> None:
        """Some of the body."""
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """All was said."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def whole(self, head: h11.Response, body: bytes, revision: str | None) -> None:
        """Head and body."""
        await self.begin(head, revision)
        await self.part(body)
        await self.end()

    async def broken(self, message: str) -> None:
        """An event stream ends with an error that says so; anything else is cut off, so that nobody takes it for whole.

        Raises:
            ConnectionError: It is cut off.
        """
        if not self._events:
            raise ConnectionError(message)
        await self.part(b"\ndata: " + json.dumps(_error(message, 502, "replica_lost")).encode() + b"\n\n")
        await self.end()

    async def error(self, status: int, message: str, code: str) -> None:
        """The gateway's own word."""
        more = [RETRY_AFTER] if status in (429, 503) else []
        if not self.begun:
            await self.document(status, _error(message, status, code), more)

    async def document(self, status: int, document: dict[str, Any], more: Headers | None = None) -> None:
        """A JSON document."""
        body = json.dumps(document).encode()
        length = (b"content-length", str(len(body)).encode())
        await self._start(status, [(b"content-type", b"application/json"), length, *(more or [])])
        await self.part(body)
        await self.end()

    async def _start(self, status: int, headers: Headers) -> None:
        self.begun = True
        last = [(b"connection", b"close")] if self._close else []
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *last]})


def _error(message: str, status: int, code: str) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
