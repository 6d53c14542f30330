"""An HTTP proxy between a client and a real server that does, to chosen requests, what networks and servers do.

It knows just enough of HTTP/1.1 to tell requests and bodies apart. It runs its own event loop in a thread.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import parse_qs, unquote, urlsplit

_CHUNK = 64 * 1024


class CutError(Exception):
    """Ends both connections of a request; `hard` by a reset."""

    def __init__(self, *, hard: bool) -> None:
        self.hard = hard


@dataclass(frozen=True)
class Request:
    """What a rule is matched with, and what is remembered of each request."""

    method: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]

    @property
    def part(self) -> int | None:
        """Number of the part that is uploaded; None for any other request."""
        return int(self.query["partNumber"]) if "partNumber" in self.query else None


class Fault:
    """Does nothing; the others override what they spoil. Offsets count the bytes of a body."""

    async def answer(self, request: Request) -> bytes | None:
        """Return a whole response to give in place of the server's."""
        return None

    async def sent(self, data: bytes, offset: int) -> bytes:
        """Return what the server gets of the request's body."""
        return data

    def head(self, head: bytes) -> bytes:
        """Return what the client gets of the response's head."""
        return head

    async def received(self, data: bytes, offset: int) -> bytes:
        """Return what the client gets of the response's body."""
        return data

    async def before_response(self) -> None:
        """Called when the server has answered, before anything is passed on."""


@dataclass
class Answers(Fault):
    """An S3 error in place of the server's answer, as XML, except to HEAD, which has no body."""

    status: int
    code: str
    message: str = "as told by the test"

    async def answer(self, request: Request) -> bytes:
        xml = f"<Error><Code>{self.code}</Code><Message>{self.message}</Message><RequestId>proxy</RequestId></Error>"
        body = b"" if request.method == "HEAD" else xml.encode()
        head = f"HTTP/1.1 {self.status} Fault\r\nContent-Type: application/xml\r\nContent-Length: {len(xml)}\r\n\r\n"
        return head.encode() + body


@dataclass
class AnswersWith(Fault):
    """Any bytes in place of the server's answer."""

    response: bytes

    async def answer(self, request: Request) -> bytes:
        return self.response


@dataclass
class CutsUpload(Fault):
    """Ends the connection when `after` bytes of the request's body have passed."""

    after: int

    async def sent(self, data: bytes, offset: int) -> bytes:
        if offset + len(data) > self.after:
            raise CutError(hard=True)
        return data


@dataclass
class CutsDownload(Fault):
    """Ends the connection when `after` bytes of the response's body have passed: softly, or by a reset."""

    after: int
    hard: bool

    async def received(self, data: bytes, offset: int) -> bytes:
        if offset + len(data) > self.after:
            raise CutError(hard=self.hard)
        return data


@dataclass
class Shortens(Fault):
    """Passes only `length` bytes of the response's body on, and says in its head that this is all."""

    length: int

    def head(self, head: bytes) -> bytes:
        return re.sub(rb"(?i)content-length: *\d+", b"Content-Length: %d" % self.length, head)

    async def received(self, data: bytes, offset: int) -> bytes:
        return data[: max(0, self.length - offset)]


@dataclass
class FlipsUpload(Fault):
    """Flips one bit of the request's body."""

    at: int

    async def sent(self, data: bytes, offset: int) -> bytes:
        return _flipped(data, self.at - offset)


@dataclass
class FlipsDownload(Fault):
    """Flips one bit of the response's body."""

    at: int

    async def received(self, data: bytes, offset: int) -> bytes:
        return _flipped(data, self.at - offset)


@dataclass
class StallsUpload(Fault):
    """Takes no more of the request's body for a while."""

    after: int
    seconds: float

    async def sent(self, data: bytes, offset: int) -> bytes:
        if offset <= self.after < offset + len(data):
            await asyncio.sleep(self.seconds)
        return data


@dataclass
class StallsDownload(Fault):
    """Passes on no more of the response's body for a while."""

    after: int
    seconds: float

    async def received(self, data: bytes, offset: int) -> bytes:
        if offset <= self.after < offset + len(data):
            await asyncio.sleep(self.seconds)
        return data


@dataclass
class Drips(Fault):
    """Passes the response's body on in small pieces with a pause after each."""

    pause_s: float

    async def received(self, data: bytes, offset: int) -> bytes:
        await asyncio.sleep(self.pause_s)
        return data


@dataclass
class LosesAnswer(Fault):
    """Lets the server do its work, and resets the connection before its answer is passed on."""

    async def before_response(self) -> None:
        raise CutError(hard=True)


@dataclass
class Holds(Fault):
    """Keeps the server's answer back until told, so that a test can act in between."""

    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    async def before_response(self) -> None:
        self.reached.set()
        await asyncio.to_thread(self.release.wait, 60)


@dataclass
class _Rule:
    fault: Fault
    matches: Callable[[Request], bool]
    times: int


class FaultProxy:
    """The proxy's handle for a test."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._rules: list[_Rule] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._closed = False
        self.seen: list[Request] = []
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spoil(self, fault: Fault, matches: Callable[[Request], bool] = lambda _: True, *, times: int = 1) -> Fault:
        """Do `fault` to the next `times` requests that match; the rule added first comes first."""
        self._rules.append(_Rule(fault, matches, times))
        return fault

    def count(self, matches: Callable[[Request], bool]) -> int:
        """Return how many requests of a kind came so far."""
        return sum(map(matches, list(self.seen)))

    def fault_for(self, request: Request) -> Fault:
        """Remember a request and choose what is done to it."""
        self.seen.append(request)
        for rule in self._rules:
            if rule.times > 0 and rule.matches(request):
                rule.times -= 1
                return rule.fault
        return Fault()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client connection, request after request."""
        ends, task = [writer], cast("asyncio.Task[None]", asyncio.current_task())
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            ends.append(server_writer)
            if self._closed:
                return
            self._serving.add(task)
            while await self._exchange(reader, writer, server_reader, server_writer):
                pass
        except CutError as cut:
            if cut.hard:
                _reset_on_close(writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._serving.discard(task)
            for end in ends:
                end.close()

    async def close(self) -> None:
        """End every connection, those too that the system has accepted and whose turn comes only now."""
        self._closed = True
        while True:
            await asyncio.sleep(0.01)  # what is accepted becomes a task, and what was closed is gone, in the next turns
            if not (others := asyncio.all_tasks() - {asyncio.current_task()}):
                return
            for task in self._serving:  # cancelled before it begins or while it connects, one would leave a socket open
                task.cancel()
            await asyncio.wait(others)

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> bool:
        head = await _head(reader)
        if not head:
            return False
        request = _request(head)
        fault = self.fault_for(request)
        body = _body(reader, _length(head))
        if (answer := await fault.answer(request)) is not None:
            async for _ in body:
                pass
            writer.write(answer)
            await writer.drain()
            return True
        server_writer.write(head)
        await _relay(body, server_writer, fault.sent)
        response = await _head(server_reader)
        await fault.before_response()
        writer.write(fault.head(response))
        length = 0 if request.method == "HEAD" or b" 204 " in response[:16] else _length(response)
        await _relay(_body(server_reader, length), writer, fault.received)
        return b"connection: close" not in response.lower()


@contextmanager
def fault_proxy(upstream_port: int) -> Iterator[FaultProxy]:
    """Run a proxy before the server on `upstream_port`."""
    proxy, loop, started = FaultProxy(upstream_port), asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    async def main() -> None:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=4 * _CHUNK)
        proxy.port = server.sockets[0].getsockname()[1]
        started.set()
        await stop.wait()
        for listening in server.sockets:  # closed at once, it would leave a connection open that is being accepted
            loop.remove_reader(listening)
        await proxy.close()
        server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
    thread.start()
    started.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def _request(head: bytes) -> Request:
    line, *rest = head.decode("latin-1").split("\r\n")
    method, target, _ = line.split(" ")
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in rest if field)}
    return Request(method, unquote(parts.path).partition("/")[2].partition("/")[2], query, headers)


def _length(head: bytes) -> int | None:
    """Return the body's length; None for a chunked body."""
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        return None
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(found[1]) if found else 0


async def _body(reader: asyncio.StreamReader, length: int | None) -> AsyncGenerator[bytes, None]:
    if length is None:
        async with aclosing(_chunked(reader)) as chunks:
            async for data in chunks:
                yield data
        return
    while length:
        data = await reader.read(min(length, _CHUNK))
        if not data:
            raise CutError(hard=False)
        length -= len(data)
        yield data


async def _chunked(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        yield line + await reader.readexactly(size + 2)
        if not size:
            return


async def _relay(
    body: AsyncGenerator[bytes, None], writer: asyncio.StreamWriter, change: Callable[[bytes, int], Awaitable[bytes]]
) -> None:
    offset = 0
    async with aclosing(body):
        async for data in body:
            writer.write(await change(data, offset))
            offset += len(data)
            await writer.drain()
    await writer.drain()


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :] if 0 <= at < len(data) else data


def _reset_on_close(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
