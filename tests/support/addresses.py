"""What may be at an address: a program that answers, one that stands still, or nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def answering(address: str, port: int, document: Any) -> Iterator[None]:
    """One that gives this document to whoever asks."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer((address, port), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@contextmanager
def deaf(address: str, port: int) -> Iterator[None]:
    """One that takes connections and says nothing: a process that stands still."""
    with closing(socket.create_server((address, port), backlog=64)):
        yield


@contextmanager
def nothing(address: str, port: int) -> Iterator[None]:
    """An address that no connection gets through to: the kernel drops what a full queue cannot take."""
    with ExitStack() as stack:
        stack.enter_context(closing(socket.create_server((address, port), backlog=0)))
        stack.enter_context(filled((address, port)))
        yield


@contextmanager
def filled(address: tuple[str, int]) -> Iterator[None]:
    """Have connections wait in the queue of a listener that has no room for more; nobody takes them from it."""
    with ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield


@asynccontextmanager
async def beside(program: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a program that never ends by itself to the end of the block."""
    task = asyncio.create_task(program)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that threads and kernels do, which set no event."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
