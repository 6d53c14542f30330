"""Connections that give up on a stalled transfer, and that fill a buffer without a copy between."""

import http.client
import io
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection

SEND_BLOCK = 1 << 20
"""Bytes that must leave within one time-out. Python's sendall counts its time-out over all that it is given, and
urllib3 would apply the one for connecting, so a large part on a slow line would never get through."""


class DirectResponse(http.client.HTTPResponse):
    """A response whose body can be received into the caller's buffer, one system call at a time."""

    def receive_into(self, buffer: memoryview) -> int:
        """Receive what is there, at most the rest of the body; 0 at its end."""
        if self.fp is None or self.length is None:  # at the end, or in chunks of unknown number
            return self.readinto(buffer) if self.fp is not None else 0
        wanted = buffer[: self.length]
        if not wanted.nbytes:
            return 0
        assert isinstance(self.fp, io.BufferedReader)
        count = self.fp.readinto1(wanted)
        self.length -= count
        if not count or not self.length:
            self._close_conn()  # type: ignore[attr-defined]  # as read1 of the same class does
        return count


class _Blockwise:
    """Mixed into a connection: sends in blocks, each with the time-out of a read."""

    stall_s: float
    sock: Any
    auto_open: int
    response_class = DirectResponse

    def send(self, data: Any) -> None:
        """Send all of `data`."""
        if self.sock is None and self.auto_open:
            self.connect()  # type: ignore[attr-defined]
        self.sock.settimeout(self.stall_s)
        if not isinstance(data, bytes | bytearray | memoryview):
            super().send(data)  # type: ignore[misc]
            return
        view = memoryview(data).cast("B")
        for start in range(0, view.nbytes, SEND_BLOCK):
            self.sock.sendall(view[start : start + SEND_BLOCK])


def pool(*, connect_s: float, stall_s: float, ca_file: str, connections: int) -> PoolManager:
    """Return a pool that never retries (that is ours to do) and never waits longer than told.

    Args:
        connect_s: Seconds for a connection to come up.
        stall_s: Seconds without progress before a transfer is given up.
        ca_file: PEM file of trusted authorities.
        connections: Idle ones to keep.
    """
    plain = type("Plain", (_Blockwise, HTTPConnection), {"stall_s": stall_s})
    secure = type("Secure", (_Blockwise, HTTPSConnection), {"stall_s": stall_s})
    manager = PoolManager(
        maxsize=connections,
        timeout=Timeout(connect=connect_s, read=stall_s),
        retries=False,
        cert_reqs="CERT_REQUIRED",
        ca_certs=ca_file,
    )
    manager.pool_classes_by_scheme = {
        "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
    return manager
