"""HTTP between agents and coordinator: JSON documents and raw bytes, over connections that stay open."""

from __future__ import annotations

import http.client
import io
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Buffer = bytes | memoryview


class Request:
    """What a handler gets: query, and a body that is read when it is asked for.

    Args:
        query: Of the path.
        body: All of it, where it is there already.
        stream: Where it is to be read from, else.
        length: Bytes to read there; as they are read, `unread` comes down to 0.
    """

    def __init__(
        self, query: Mapping[str, str], body: bytes = b"", stream: io.BufferedIOBase | None = None, length: int = 0
    ) -> None:
        self.query, self._body, self._stream, self.unread = query, body, stream, length

    @property
    def body(self) -> bytes:
        """All of it."""
        if self._stream is not None and self.unread:
            self._body, self.unread = self._stream.read(self.unread), 0
        return self._body

    def read_into(self, place: memoryview) -> None:
        """Put the body there, without a copy in between.

        Raises:
            ConnectionError: The sender went away, or the body is not as long as the place.
        """
        assert self._stream is not None
        if self.unread != place.nbytes:
            raise ConnectionError(f"the body has {self.unread} bytes, its place {place.nbytes}")
        read_whole(self._stream, place)
        self.unread = 0


Answer = tuple[int, str, Buffer]
"""Status, content type, body."""
Handler = Callable[[Request], Answer]
Routes = Mapping[tuple[str, str], Handler]
"""(method, path) to handler."""

JSON = "application/json"
NOT_FOUND: Answer = (404, "text/plain", b"no such path\n")


class Server(ThreadingHTTPServer):
    """Serves `routes` from threads of its own; `address` is `host:port`, port 0 takes a free one."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, address: str, routes: Routes) -> None:
        host, _, port = address.rpartition(":")
        self.routes = routes
        super().__init__((host, int(port)), _Handler)
        self.address = f"{host}:{self.server_address[1]}"
        self._thread = threading.Thread(
            target=self.serve_forever, name="http", kwargs={"poll_interval": 0.1}, daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is no event."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        handler = self.server.routes.get((self.command, parts.path))
        request = Request(query, stream=self.rfile, length=int(self.headers.get("Content-Length", 0)))
        status, kind, data = handler(request) if handler else NOT_FOUND
        self.close_connection |= request.unread > 0  # what is left of a body would be taken for the next request
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = _answer  # noqa: N815 - the base class names them so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Requests are not logged: there are several a second."""


def read_whole(stream: io.BufferedIOBase, place: memoryview) -> None:
    """Read until the place is full.

    Raises:
        ConnectionError: The stream ended before.
    """
    done = 0
    while done < place.nbytes:
        count = stream.readinto(place[done:])
        if not count:
            raise ConnectionError(f"the stream ended after {done} of {place.nbytes} bytes")
        done += count


CONNECT_S = 1.0
"""A machine that is there accepts within this, however busy its programs are.

Who waits longer for one that is cut off misses its successor: a new coordinator waits 3 s for the hosts of its gang.
"""


class Gone(ConnectionError):  # noqa: N818 - caught by what happened
    """Nobody answers. `refused`: the machine is there and nobody listens."""

    def __init__(self, address: str, fault: Exception) -> None:
        self.refused = isinstance(fault, ConnectionRefusedError)
        super().__init__(f"{address}: {fault or type(fault).__name__}")


class Client:
    """One server, one open connection per thread. A request is tried twice when the kept connection had gone stale."""

    def __init__(self, address: str, timeout_s: float = 5.0) -> None:
        self.address, self._timeout = address, timeout_s
        self._local = threading.local()

    def ask(self, method: str, path: str, body: Buffer = b"", timeout_s: float | None = None) -> bytes:
        """The body of a 200.

        Raises:
            Gone: No answer.
            ValueError: An answer other than 200.
        """
        fresh = getattr(self._local, "connection", None) is None
        try:
            return self._once(method, path, body, timeout_s)
        except (OSError, http.client.HTTPException) as fault:
            self.close()
            if fresh or isinstance(fault, TimeoutError):
                raise Gone(self.address, fault) from fault
        try:
            return self._once(method, path, body, timeout_s)
        except (OSError, http.client.HTTPException) as fault:
            self.close()
            raise Gone(self.address, fault) from fault

    def ask_into(self, path: str, place: memoryview) -> None:
        """Put the body of an answer to GET there, without a copy in between.

        Raises:
            Gone: No answer, or one that broke off.
            ValueError: An answer other than 200, or of another length.
        """
        connection = http.client.HTTPConnection(self.address, timeout=self._timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            if response.status != 200 or response.length != place.nbytes:
                raise ValueError(f"GET http://{self.address}{path}: {response.status}, {response.length} bytes")
            read_whole(response, place)
        except (OSError, http.client.HTTPException) as fault:
            raise Gone(self.address, fault) from fault
        finally:
            connection.close()

    def close(self) -> None:
        """Drop this thread's connection."""
        connection = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            with suppress(OSError):
                connection.close()

    def _once(self, method: str, path: str, body: Buffer, timeout_s: float | None) -> bytes:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            within = min(CONNECT_S, self._timeout)
            connection = self._local.connection = http.client.HTTPConnection(self.address, timeout=within)
            connection.connect()
        connection.sock.settimeout(timeout_s or self._timeout)
        connection.request(method, path, body=body)
        response = connection.getresponse()
        data: bytes = response.read()
        if response.status != 200:
            raise ValueError(
                f"{method} http://{self.address}{path}: {response.status} {data[:500].decode(errors='replace')}"
            )
        return data
