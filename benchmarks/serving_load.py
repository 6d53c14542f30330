"""Requests against a served model: as many at once as it has places, or at random moments whatever becomes of them."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp

SEED, TOKENS = 1, 24
CONNECT_S, PATIENCE_S = 5.0, 60.0
TRIES = 3
"""A connection that does not come about is tried again, twice, as OpenAI's client does: nothing was sent by then."""


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        began, ended: Seconds of the monotonic clock.
        first_s: From its beginning to its first token.
        problem: What was wrong; empty for nothing.
        tries: Connections it took.
    """

    began: float
    ended: float
    first_s: float | None
    problem: str
    tries: int


@dataclass
class Load:
    """Requests against one address."""

    url: str
    asked: list[Asked] = field(default_factory=list)

    def at_once(self, clients: int, seconds: float) -> float:
        """Requests a second that so many clients get answered, each asking again at once."""

        async def client(session: aiohttp.ClientSession, until: float) -> None:
            while time.monotonic() < until:
                await self._ask(session)

        async def all_of_them() -> None:
            async with _session() as session:
                until = time.monotonic() + seconds
                await asyncio.gather(*(client(session, until) for _ in range(clients)))

        asyncio.run(all_of_them())
        bad, count = [asked.problem for asked in self.asked if asked.problem], len(self.asked)
        self.asked.clear()
        if bad:
            raise RuntimeError(f"{len(bad)} of {count} requests failed while nothing happened: {bad[0]}")
        return count / seconds

    @contextmanager
    def at_rate(self, rate: float) -> Iterator[None]:
        """Requests at random moments, at this many a second, for the block; what is open at its end is awaited."""
        stop = threading.Event()

        async def arrivals() -> None:
            chance = random.Random(SEED)
            async with _session() as session, asyncio.TaskGroup() as group:
                due = time.monotonic()
                while not stop.is_set():
                    due += chance.expovariate(rate)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    group.create_task(self._ask(session))

        thread = threading.Thread(target=lambda: asyncio.run(arrivals()))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        began, first, tries = time.monotonic(), None, 0
        while True:
            tries += 1
            try:
                first, problem = await self._stream(session)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as fault:
                if tries < TRIES:
                    continue
                problem = repr(fault)[:300]
            except (aiohttp.ClientError, TimeoutError, OSError) as fault:
                problem = repr(fault)[:300]
            break
        first_s = None if first is None else first - began
        self.asked.append(Asked(began, time.monotonic(), first_s, problem, tries))

    async def _stream(self, session: aiohttp.ClientSession) -> tuple[float | None, str]:
        """The moment of the first token, and what was wrong."""
        body = {"prompt": [5, 6, 7, 8], "max_tokens": TOKENS, "ignore_eos": True, "temperature": 0, "stream": True}
        first, last = None, b""
        async with session.post(f"{self.url}/v1/completions", json=body) as answer:
            async for line in answer.content:
                first = time.monotonic() if first is None and line.startswith(b"data:") else first
                last = line.strip() or last
            whole = answer.status == 200 and last == b"data: [DONE]"
            return first, "" if whole else f"{answer.status} {last.decode()[-300:]}"


def _session() -> aiohttp.ClientSession:
    limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=PATIENCE_S)
    return aiohttp.ClientSession(timeout=limits, connector=aiohttp.TCPConnector(limit=0, force_close=True))
