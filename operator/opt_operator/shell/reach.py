"""Whether a machine is there, by how tries to speak with a pod on it fail."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import lru_cache

import aiohttp
from yarl import URL

UNREACHED = 2
"""So many tries in a row that found nothing at an address, and the machine behind it is taken for gone."""
RETRY_S = 0.1
"""Until a pod that did not answer is asked again: doubled each time."""
CONNECT_S = 0.7
NO_MACHINE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT)


@dataclass
class Missed:
    """Tries in a row that brought no word of one pod.

    Attributes:
        unreached: The newest of them, in a row, that found nothing at its address.
        since_s: When the first of those ended.
    """

    pod: str
    tries: int = 0
    unreached: int = 0
    since_s: float = 0.0

    def add(self, now_s: float, fault: Exception) -> None:
        """One more."""
        unreached = no_machine(fault)
        self.tries += 1
        self.since_s = self.since_s if unreached and self.unreached else now_s
        self.unreached = self.unreached + 1 if unreached else 0

    @property
    def gone(self) -> bool:
        """Whether the machine is taken for gone."""
        return self.unreached >= UNREACHED

    def wait_s(self, limit_s: float) -> float:
        """Seconds until the next try."""
        return min(RETRY_S * 2.0 ** min(self.tries - 1, 16), limit_s)


def open_session(timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    """Asks pods, with a connection for each request: a kept one would not tell whether a machine is there."""
    connector = aiohttp.TCPConnector(force_close=True)
    return aiohttp.ClientSession(timeout=timeout, connector=connector, cookie_jar=aiohttp.DummyCookieJar())


@lru_cache(maxsize=8192)
def url(address: str, port: int, path: str) -> URL:
    """Of a pod; kept, since to take one apart costs as much as to ask."""
    return URL.build(scheme="http", host=address, port=port, path=path)


def no_machine(fault: Exception) -> bool:
    """Whether not even a connection came about: a machine that is there takes or refuses one, however busy it is."""
    if isinstance(fault, aiohttp.ConnectionTimeoutError):
        return True
    return isinstance(fault, aiohttp.ClientConnectorError) and fault.errno in NO_MACHINE
