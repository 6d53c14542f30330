"""The warm parent of one host's workers: imports once, then forks a worker in milliseconds whenever it is told to.

A program of its own with a single thread, because forking a process with threads is not safe. It is told by one-message
packets on a socket pair; when the agent goes away it goes away, and its workers with it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import selectors
import signal
import socket
import traceback
from importlib import import_module

from opt_runtime.linux import die_with_parent
from opt_runtime.messages import WorkerOrder
from opt_runtime.worker.child import PACKET, Shared, live
from opt_runtime.worker.context import Entry
from opt_runtime.worker.warm import warm

PREPARE = "prepare"
"""A function of this name beside the entry is called once before any fork, to make the first step of each worker quick.

It must leave no thread behind: a fork copies none, and every lock.
"""


def load_entry(name: str) -> Entry:
    """The function behind `module:function`, after its module was given the chance to prepare.

    Raises:
        ImportError, AttributeError, ValueError: There is none.
    """
    module, colon, function = name.partition(":")
    if not colon:
        raise ValueError(f"entry {name!r}: expected 'package.module:function'")
    found = import_module(module)
    entry: Entry = getattr(found, function)
    try:
        getattr(found, PREPARE, bool)()
    except Exception:  # noqa: BLE001 - workers begin slower, and say themselves what is wrong
        traceback.print_exc()
    return entry


def keep_for_good() -> None:
    """Have the garbage collector of every child pass over what is here now.

    A full collection looks at, and so copies, every page of a forked child that holds an object: a fifth of a second
    after torch was imported, in the middle of a recovery.
    """
    gc.collect()
    gc.freeze()


class Nursery:
    """Forks on order and tells how children ended."""

    def __init__(self, control: socket.socket, shared: Shared, entry: Entry) -> None:
        self._control, self._shared, self._entry = control, shared, entry
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._children: dict[int, int] = {}

    def serve(self) -> None:
        """Until the agent goes away."""
        self._say({"ready": True})
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    packet = self._control.recv(PACKET)
                    if not packet:
                        return
                    self._fork(WorkerOrder.from_bytes(packet))
                else:
                    self._bury(int(key.data))

    def _fork(self, order: WorkerOrder) -> None:
        pid = os.fork()
        if pid == 0:
            self._selector.close()
            self._control.close()
            for pidfd in self._children.values():
                os.close(pidfd)
            live(order, self._shared, self._entry)
        self._children[pid] = os.pidfd_open(pid)
        self._selector.register(self._children[pid], selectors.EVENT_READ, pid)
        self._say({"forked": pid, "rank": order.rank, "attempt": order.attempt})

    def _bury(self, pid: int) -> None:
        _, status = os.waitpid(pid, 0)
        pidfd = self._children.pop(pid)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        self._say({"ended": pid, "status": status})

    def _say(self, message: dict[str, object]) -> None:
        self._control.send(json.dumps(message).encode())


def main() -> None:
    """Warm up and serve; descriptors are inherited by number."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--entry", required=True)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--acks", type=int, required=True)
    parser.add_argument("--slots", type=int, nargs="+", required=True)
    options = parser.parse_args()
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warm()
    entry = load_entry(options.entry)
    keep_for_good()
    shared = Shared(socket.socket(fileno=options.channel), options.acks, tuple(options.slots))
    Nursery(socket.socket(fileno=options.control), shared, entry).serve()


if __name__ == "__main__":
    main()
