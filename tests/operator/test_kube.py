"""Watches over real sockets: one that goes silent is followed by another, from where it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from opt_operator.shell import kube as module
from opt_operator.shell.cache import Reflector, Store
from opt_operator.shell.kube import AioKube

pytestmark = pytest.mark.integration
SILENCE_S = 0.3


class Server:
    """Lists one Service and takes watches, of which it says what a test has it say."""

    def __init__(self) -> None:
        self.lists = 0
        self.watched_from: list[str] = []
        self.watches: list[asyncio.Queue[dict[str, Any]]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """A list or a watch."""
        if "watch" not in request.query:
            self.lists += 1
            return web.json_response({"items": [service("a", 7)], "metadata": {"resourceVersion": "7"}})
        self.watched_from.append(request.query["resourceVersion"])
        says: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.watches.append(says)
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            event = await says.get()
            await response.write(json.dumps(event).encode() + b"\n")


def service(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "team", "uid": name, "resourceVersion": str(version)}}


@asynccontextmanager
async def watching(server: Server) -> AsyncIterator[Reflector]:
    """A reflector of Services at work."""
    application = web.Application()
    application.router.add_get("/api/v1/services", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = Configuration()
    settings.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    kube = AioKube(ApiClient(settings))
    reflector = Reflector(kube, "Service", None, Store("Service"), lambda *_: None)
    task = asyncio.create_task(reflector.run())
    try:
        yield reflector
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await kube.close()
        await runner.cleanup()


async def until(happened: Any) -> None:
    for _ in range(500):
        if happened():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def test_a_silent_watch_is_followed_by_another_and_nothing_is_listed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", SILENCE_S)

    async def play() -> None:
        server = Server()
        async with watching(server) as reflector:
            await until(lambda: len(server.watched_from) == 1)
            heard = reflector.last_s
            await until(lambda: len(server.watched_from) == 3)
            assert (server.lists, set(server.watched_from)) == (1, {"7"})
            assert reflector.last_s > heard, "a server that takes watches is heard"
            server.watches[-1].put_nowait({"type": "ADDED", "object": service("b", 9)})
            await until(lambda: ("team", "b") in reflector._store.objects)
            await until(lambda: server.watched_from[-1] == "9")
            assert server.lists == 1

    asyncio.run(play())


def test_a_version_that_is_too_old_is_listed_again() -> None:
    async def play() -> None:
        server = Server()
        async with watching(server):
            await until(lambda: len(server.watched_from) == 1)
            server.watches[-1].put_nowait(
                {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}
            )
            await until(lambda: server.lists == 2 and len(server.watched_from) == 2)

    asyncio.run(play())
