"""A replica on a machine that goes: it answers, keeps what it was asked, then nothing is at its address any more."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field

from support.addresses import filled

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"


@dataclass
class Vanishing:
    """Says that it is ready, and answers nothing else.

    Attributes:
        url: Where it is.
        instance: Its name of itself.
        kept: Connections with requests that wait for an answer.
    """

    url: str
    instance: str
    listener: socket.socket
    kept: list[socket.socket] = field(default_factory=list)
    gone: bool = False
    _stack: ExitStack = field(default_factory=ExitStack)

    def vanish(self) -> None:
        """From now on the kernel drops whatever comes: its queue of connections takes no more."""
        self.gone = True
        with suppress(OSError), closing(socket.create_connection(self.listener.getsockname(), 1)):
            pass  # wakes the thread
        self._thread.join()
        self.listener.listen(0)
        self._stack.enter_context(filled(self.listener.getsockname()))

    def start(self) -> None:
        """Take connections."""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leave nothing behind."""
        self._stack.close()
        for connection in self.kept:
            connection.close()

    def _serve(self) -> None:
        while not self.gone:
            connection, _ = self.listener.accept()
            if connection.recv(1 << 16).startswith(b"GET /health"):
                body = json.dumps({"status": "ready", "instance": self.instance}).encode()
                connection.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
                connection.close()
            else:
                self.kept.append(connection)


@contextmanager
def vanishing(instance: str, address: str = "127.0.42.1") -> Iterator[Vanishing]:
    """Run one to the end of the block."""
    with closing(socket.create_server((address, 0), backlog=64)) as listener:
        made = Vanishing(f"http://{address}:{listener.getsockname()[1]}", instance, listener)
        made.start()
        try:
            yield made
        finally:
            made.stop()
