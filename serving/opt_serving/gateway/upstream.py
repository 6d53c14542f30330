"""HTTP/1.1 to replicas: connections that are used again, answers that are passed on as they come."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import h11

CHUNK = 1 << 16
CONNECT_S, PROBE_CONNECT_S = 2.0, 0.7
NO_MACHINE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT)
IDLE_KEPT = 64
KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 4),
    (socket.TCP_KEEPINTVL, 2),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, 10_000),
)
"""A machine that is lost closes no connection: the kernel gives up after about ten seconds without a word from it, if
probes have not found before that it is gone."""

Headers = list[tuple[bytes, bytes]]


class Broken(Exception):  # noqa: N818 - named by what happened
    """The replica closed the connection, or never took it."""


class NotThere(Broken):
    """Nobody took the connection: the request was not seen by anyone."""


class Unreached(NotThere):
    """Not even a refusal came back: a machine that is there takes or refuses a connection, however busy it is."""


class BadRequest(Exception):  # noqa: N818 - named by what happened
    """A request that HTTP cannot carry."""


@dataclass(frozen=True)
class Request:
    """One request, whole, so that it can be sent again."""

    method: str
    target: str
    headers: Headers
    body: bytes


class Connection:
    """One connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.CLIENT)
        self.used = False

    @classmethod
    async def open(cls, address: str, limit_s: float = CONNECT_S) -> Connection:
        """Connect to `host:port`.

        Raises:
            NotThere: Nobody is there.
            Unreached: Nor is the machine.
        """
        host, _, port = address.rpartition(":")
        try:
            opened = asyncio.open_connection(host.strip("[]"), int(port))
            reader, writer = await asyncio.wait_for(opened, limit_s)
        except (OSError, TimeoutError) as fault:  # a time-out of ours is an OSError without a number
            gone = isinstance(fault, TimeoutError) or fault.errno in NO_MACHINE
            raise (Unreached if gone else NotThere)(f"{address}: {fault!r}") from fault
        line: socket.socket = writer.get_extra_info("socket")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in KEEPALIVE:
            line.setsockopt(socket.IPPROTO_TCP, option, value)
        return cls(reader, writer)

    async def send(self, request: Request) -> h11.Response:
        """Send a request; the head of its answer.

        Raises:
            Broken: No answer began.
            BadRequest: It cannot be sent to anybody.
        """
        data = self._bytes_of(request)
        try:
            self._writer.write(data)
            await self._writer.drain()
            while not isinstance(event := await self._event(), h11.Response):
                if not isinstance(event, h11.InformationalResponse):
                    raise Broken(f"{type(event).__name__} before an answer")
        except (OSError, h11.ProtocolError) as fault:
            raise Broken(repr(fault)) from fault
        return event

    def _bytes_of(self, request: Request) -> bytes:
        try:
            head = h11.Request(method=request.method, target=request.target, headers=request.headers)
            parts = [self._http.send(head), self._http.send(h11.Data(request.body)) if request.body else b""]
            parts.append(self._http.send(h11.EndOfMessage()))
        except h11.LocalProtocolError as fault:
            raise BadRequest(str(fault)) from fault
        return b"".join(part for part in parts if part)

    async def body(self) -> AsyncIterator[bytes]:
        """The rest of the answer.

        Raises:
            Broken: It ends too early.
        """
        try:
            while not isinstance(event := await self._event(), h11.EndOfMessage):
                if isinstance(event, h11.ConnectionClosed):
                    raise Broken("closed in the middle of an answer")
                if isinstance(event, h11.Data):
                    yield bytes(event.data)
        except (OSError, h11.ProtocolError) as fault:
            raise Broken(repr(fault)) from fault

    async def _event(self) -> h11.Event:
        while not isinstance(event := self._http.next_event(), h11.Event):
            if event is h11.PAUSED:
                raise Broken("it says more than was asked for")
            self._http.receive_data(await self._reader.read(CHUNK))
        return event

    def done(self) -> bool:
        """Ready for another request; False where it cannot be used again."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE or self._reader.at_eof():
            return False
        self._http.start_next_cycle()
        self.used = True
        return True

    def abort(self) -> None:
        """Give it up: whoever waits for its answer hears that there will be none."""
        self._writer.transport.abort()

    def close(self) -> None:
        """Close it."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.close()

    @property
    def closed(self) -> bool:
        """Whether the other side has closed it."""
        return self._reader.at_eof() or self._writer.is_closing()


class Pool:
    """Connections by address: idle ones, and those that are in use."""

    def __init__(self) -> None:
        self._idle: defaultdict[str, list[Connection]] = defaultdict(list)
        self._busy: defaultdict[str, set[Connection]] = defaultdict(set)

    async def take(self, address: str, *, fresh: bool = False) -> Connection:
        """An idle connection, or a new one.

        Raises:
            NotThere: Nobody is there.
        """
        idle = self._idle[address]
        while idle and not fresh:
            connection = idle.pop()
            if not connection.closed:
                break
            connection.close()
        else:
            connection = await Connection.open(address)
        self._busy[address].add(connection)
        return connection

    def give_back(self, address: str, connection: Connection) -> None:
        """Keep it for the next, or close it."""
        self._busy[address].discard(connection)
        if connection.done() and len(self._idle[address]) < IDLE_KEPT:
            self._idle[address].append(connection)
        else:
            connection.close()

    def drop(self, address: str, connection: Connection) -> None:
        """Close one that brought no answer."""
        self._busy[address].discard(connection)
        connection.close()

    def abandon(self, address: str) -> None:
        """Give up all of them: the machine is gone."""
        for connection in [*self._busy[address]]:
            connection.abort()
        self.forget(address)

    def forget(self, address: str) -> None:
        """Close what is idle."""
        for connection in self._idle.pop(address, []):
            connection.close()
        if not self._busy[address]:
            del self._busy[address]


async def ask(address: str, path: str, timeout_s: float) -> tuple[int, bytes]:
    """One GET on a connection of its own: status and body.

    Raises:
        Broken: No whole answer in time.
        Unreached: Its machine is not there.
    """
    try:
        async with asyncio.timeout(timeout_s):
            connection = await Connection.open(address, PROBE_CONNECT_S)
            try:
                request = Request("GET", path, [(b"host", address.encode()), (b"connection", b"close")], b"")
                answer = await connection.send(request)
                return answer.status_code, b"".join([part async for part in connection.body()])
            finally:
                connection.close()
    except TimeoutError as fault:
        raise Broken(f"{address}: no answer in {timeout_s} s") from fault


def header(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes:
    """Value of a header; empty for none."""
    return next((value for key, value in headers if key.lower() == name), b"")
