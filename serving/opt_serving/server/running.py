"""A server process: load, answer, drain on SIGTERM, end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvicorn

from opt_serving.engine import Sampling, Sequence
from opt_serving.engine.opening import BrokenModel, open_engine
from opt_serving.server.app import build_app
from opt_serving.server.jobs import Served
from opt_serving.server.state import State
from opt_serving.settings import ServerSettings
from opt_serving.text.tokenizer import START, Tokenizer

_log = structlog.get_logger("opt_serving.server")
LOOK_SECONDS = 0.5
"""Between two looks at whether the engine still computes."""
WATCH_SECONDS = 5.0
"""Between two looks for newer weights."""


@dataclass(frozen=True)
class Weights:
    """A model directory on this machine.

    Attributes:
        folder: Where it is.
        root: Where it came from, for people.
        revision: Names the weights.
    """

    folder: Path
    root: str
    revision: str | None = None


Find = Callable[[str | None], Weights | None]
"""Gives the weights to serve, or None while the newest are still of the revision that it is told; may take its time."""


def open_served(weights: Weights, settings: ServerSettings) -> Served:
    """Load a model directory.

    Raises:
        opt_serving.engine.opening.BrokenModel: It is no whole model.
    """
    engine = open_engine(weights.folder, settings.engine)
    try:
        tokenizer = Tokenizer.of(weights.folder, engine.shape.vocabulary_size)
    except ValueError as fault:
        engine.close()
        raise BrokenModel(str(fault)) from fault
    return Served(engine, tokenizer, weights.root, int(time.time()), weights.revision, weights.folder)


async def serve(settings: ServerSettings, find: Find, *, host: str, port: int, watch: bool = False) -> str | None:
    """Answer until SIGTERM or SIGINT; returns why it could not, None at a proper end."""
    running = _Running(settings, find, watch=watch)
    config = uvicorn.Config(
        build_app(settings, running.beside),
        host=host,
        port=port,
        log_level="error",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=1,
    )
    running.server = _Server(config)
    await running.server.serve()
    if running.fault is None and not running.server.started:
        return f"cannot listen on {host}:{port}; is another program there?"
    return running.fault


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to us: a server that drains still answers, with 503."""
        yield


class _Running:
    """Loads the model beside the server, follows newer ones, and ends the server."""

    def __init__(self, settings: ServerSettings, find: Find, *, watch: bool) -> None:
        self.server: uvicorn.Server | None = None
        self.fault: str | None = None
        self._settings, self._find, self._watch = settings, find, watch
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def beside(self, state: State) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._end, state)
        self._start(self._follow(state))
        self._start(self._look_after(state))
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(work))

    async def _follow(self, state: State) -> None:
        revision: str | None = None
        while True:
            try:
                weights = await asyncio.to_thread(self._find, revision)
                if weights is not None:
                    state.serve(await self._open(weights))
                    revision = weights.revision
            except Exception as fault:  # noqa: BLE001 - whatever it was, what is served stays served
                _log.error("cannot load the model", reason=str(fault), kind=type(fault).__name__)
                if state.served is None:
                    self.fault = f"{type(fault).__name__}: {fault}"
                    state.fail(self.fault)
                    self._stop()
                    return
            if not self._watch:
                return
            await asyncio.sleep(WATCH_SECONDS)

    async def _look_after(self, state: State) -> None:
        """End the server when its engine is lost: whoever started it starts another."""
        while state.served is None or not state.served.engine.lost:  # noqa: ASYNC110 - another thread makes it so
            await asyncio.sleep(LOOK_SECONDS)
        self.fault = f"engine lost: {state.served.engine.lost}"
        state.fail(self.fault)
        self._stop()

    async def _open(self, weights: Weights) -> Served:
        """Load, and generate one token, so that what is called ready has answered once."""
        served = await asyncio.to_thread(open_served, weights, self._settings)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        first = Sequence([START], Sampling(max_tokens=1))
        served.engine.submit(first, lambda _: _set(loop, ended))
        await ended.wait()
        if first.finish == "error":
            raise BrokenModel(f"{weights.root}: the first token could not be computed: {first.error}")
        return served

    def _end(self, state: State) -> None:
        if state.phase == "draining":
            self._stop()
        else:
            state.drain()
            self._start(self._drain(state))

    async def _drain(self, state: State) -> None:
        until = time.monotonic() + self._settings.drain_seconds
        while state.count and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        self._stop()

    def _stop(self) -> None:
        assert self.server is not None
        self.server.should_exit = True


def _set(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    loop.call_soon_threadsafe(event.set)
