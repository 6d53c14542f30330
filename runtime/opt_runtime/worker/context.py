"""What a worker entry gets: its orders, its memory, and how to say that it lives.

An entry is a function `entry(context) -> ExitReport`, named by an import string ("package.module:function"), so that
this package starts trainers without knowing any.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from opt_api.documents.exit_report import ExitReport
from opt_api.documents.heartbeat import Heartbeat
from opt_runtime.memory.rank import RankMemory
from opt_runtime.messages import WorkerOrder

CHANGES_FOLDER = "changes"


class WorkerContext:
    """One worker's surroundings.

    Attributes:
        order: Who it is and where it begins.
        memory: Its states in shared memory.
        step: Steps done, as its last heartbeat said.
    """

    def __init__(self, order: WorkerOrder, memory: RankMemory, channel: socket.socket) -> None:
        self.order, self.memory = order, memory
        self._channel = channel
        self.step = order.restore_step or 0
        self._stop = False
        signal.signal(signal.SIGTERM, self._on_term)

    @property
    def stopping(self) -> bool:
        """Whether it was asked to save and stop."""
        return self._stop

    def heartbeat(self, beat: Heartbeat) -> None:
        """Tell the agent; never waits. A heartbeat that finds no room is dropped: the next one says more."""
        self.step = max(self.step, beat.step)
        send(self._channel, "beat", beat.to_bytes())

    @property
    def changes(self) -> Path:
        """Folder in which live changes appear, whole, as `<sequence>.json`."""
        return Path(self.order.directory) / CHANGES_FOLDER

    def _on_term(self, *_: object) -> None:
        self._stop = True


Entry = Callable[[WorkerContext], ExitReport]


def send(channel: socket.socket, kind: str, body: bytes) -> None:
    """One message to the agent, if there is room."""
    with suppress(BlockingIOError, ConnectionError):
        channel.send(kind.encode() + b" " + body, socket.MSG_DONTWAIT)
