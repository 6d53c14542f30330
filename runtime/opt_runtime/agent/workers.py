"""One host's workers through their warm parent: fork, watch, collect stacks, kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from opt_api.documents.exit_report import ExitReport
from opt_api.documents.heartbeat import Heartbeat
from opt_runtime.agent.copies import Copies
from opt_runtime.linux import is_stopped
from opt_runtime.messages import WorkerNote, WorkerOrder
from opt_runtime.worker.child import PACKET, STACKS_SIGNAL

STACK_WAIT_S = 0.3
TAIL = 6000
"""Characters of a worker's log that travel as evidence."""
KILL_PATIENCE_S = 10.0
STILLBORN = 3
"""Warm parents that ended before they were ready, one after the other: the next would, too."""
STILLBORN_GAP_S = 1.0
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
}
"""What glibc is told (mallopt(3)), where nobody told it otherwise: a step's memory is kept for the next step.

Given back, it comes again page by page: the 8M model met 4,000 page faults a step, a twentieth of its processor time.
Without its cache of small chunks (glibc manual, "Memory Allocation Tunables"), because an aligned block leaves a small
chunk beside itself, and kept there it hinders the block, freed, from being large enough for the same block again.
"""


@dataclass
class Worker:
    """One worker process of the current attempt."""

    order: WorkerOrder
    pid: int = 0
    ended: bool = False
    code: int | None = None
    signal: int | None = None
    report: ExitReport | None = None
    stack: str = ""
    gone: threading.Event = field(default_factory=threading.Event)

    def note(self) -> WorkerNote:
        """What the coordinator is told."""
        return WorkerNote(
            rank=self.order.rank,
            attempt=self.order.attempt,
            pid=self.pid,
            stopped=not self.ended and self.pid > 0 and is_stopped(self.pid),
            ended=self.ended,
            code=self.code,
            signal=self.signal,
            report=self.report,
            stack=self.stack,
        )


@dataclass(frozen=True, slots=True)
class Ears:
    """Whom to tell what, from any thread.

    Attributes:
        beat: Every heartbeat.
        full: That a worker's state found no place in memory.
        barren: That no worker can be started here, and why.
        change: Anything ended, began, or was published.
    """

    beat: Callable[[Heartbeat], None]
    full: Callable[[str], None]
    barren: Callable[[str], None]
    change: Callable[[], None]


class Workers:
    """All workers of the host. Two threads of its own listen to the warm parent and to the workers.

    Args:
        entry: Import string of the worker entry.
        copies: Shared memory of the host.
        ears: Whom to tell.
    """

    def __init__(self, entry: str, copies: Copies, ears: Ears) -> None:
        self._entry, self._copies, self._ears = entry, copies, ears
        self._lock = threading.RLock()
        self._workers: dict[int, Worker] = {}
        self.ready = threading.Event()
        self.began = 0.0
        self._channel, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        threading.Thread(target=self._listen, name="channel", daemon=True).start()
        threading.Thread(target=self._keep_nursery, name="nursery", daemon=True).start()

    def notes(self) -> tuple[WorkerNote, ...]:
        """The state of every worker of the newest attempt."""
        with self._lock:
            return tuple(worker.note() for worker in self._workers.values())

    def start(self, orders: list[WorkerOrder]) -> None:
        """Fork workers; those before must have been ended.

        Raises:
            OSError: The warm parent is gone; it is started again by itself.
        """
        self.ready.wait(KILL_PATIENCE_S)
        with self._lock:
            self._workers = {order.rank: Worker(order) for order in orders}
            for order in orders:
                self._control.send(order.to_bytes())

    def fail(self, orders: list[WorkerOrder], report: ExitReport) -> None:
        """Workers that could not even be started, with the reason."""
        with self._lock:
            self._workers = {o.rank: Worker(o, ended=True, code=1, report=report) for o in orders}
        self._ears.change()

    def terminate(self) -> None:
        """Ask every worker to save and stop."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End every worker at once and wait until the kernel says so."""
        self._signal(signal.SIGKILL)
        with self._lock:
            living = [w for w in self._workers.values() if not w.ended and w.pid]
        deadline = time.monotonic() + KILL_PATIENCE_S
        for worker in living:
            worker.gone.wait(max(deadline - time.monotonic(), 0))

    def collect_stacks(self, ranks: tuple[int, ...]) -> dict[int, str]:
        """Stacks of those ranks that live here, before they are killed; by py-spy if installed, else faulthandler."""
        with self._lock:
            living = [w for r, w in self._workers.items() if r in ranks and not w.ended and w.pid]
        found = {worker.order.rank: _py_spy(worker.pid) or "" for worker in living}
        waiting = [worker for worker in living if not found[worker.order.rank]]
        for worker in waiting:
            _send(worker.pid, STACKS_SIGNAL)
            _send(worker.pid, signal.SIGCONT)  # a stopped process runs no handler
        if waiting:
            time.sleep(STACK_WAIT_S)
        return found | {worker.order.rank: tail(worker.order.log) for worker in waiting}

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            for worker in self._workers.values():
                if not worker.ended and worker.pid:
                    _send(worker.pid, number)

    def _keep_nursery(self) -> None:
        """Start the warm parent, listen to it, and start it again when it dies: its workers died with it."""
        stillborn = 0
        while stillborn < STILLBORN:
            time.sleep(stillborn * STILLBORN_GAP_S)
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            process = self._spawn(theirs)
            theirs.close()
            while packet := _receive(self._control):
                self._hear(json.loads(packet))
            stillborn = 0 if self.ready.is_set() else stillborn + 1
            self.ready.clear()
            code = process.wait()
            with self._lock:
                for worker in self._workers.values():
                    self._bury(worker, signal.SIGKILL)
            self._ears.change()
        self._ears.barren(
            f"no worker can be started on this host: the process that is to fork them (entry {self._entry}) ended "
            f"{STILLBORN} times before it was ready, the last time with code {code}; what it said is above"
        )

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        slots = [slot.fd for slot in self._copies.slots]
        fds = (theirs.fileno(), self._theirs.fileno(), self._copies.acks_fd, *slots)
        command = [
            sys.executable, "-m", "opt_runtime.worker.nursery", "--entry", self._entry, "--control", str(fds[0]),
            "--channel", str(fds[1]), "--acks", str(fds[2]), "--slots", *map(str, slots),
        ]  # fmt: skip
        return subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, env={**KEEP_MEMORY, **os.environ})

    def _hear(self, message: dict[str, int]) -> None:
        if "ready" in message:
            self.ready.set()
        with self._lock:
            if "forked" in message and (worker := self._workers.get(message["rank"])):
                worker.pid = message["forked"]
            if "ended" in message:
                pid = message["ended"]
                for worker in [w for w in self._workers.values() if w.pid == pid]:
                    self._bury(worker, message["status"])
        self._ears.change()

    def _bury(self, worker: Worker, status: int) -> None:
        if worker.ended:
            return
        code = os.waitstatus_to_exitcode(status)
        worker.code, worker.signal = (code, None) if code >= 0 else (None, -code)
        worker.ended = True
        if code != 0:
            worker.stack = worker.stack or tail(worker.order.log)
        worker.gone.set()

    def _listen(self) -> None:
        while True:
            kind, _, body = self._channel.recv(PACKET).partition(b" ")
            HEARD[kind](self, body)

    def _heard_beat(self, body: bytes) -> None:
        self._ears.beat(Heartbeat.from_bytes(body))

    def _heard_copy(self, body: bytes) -> None:
        self._copies.published(int(body.split()[0]))
        self._ears.change()

    def _heard_full(self, body: bytes) -> None:
        self._ears.full(body.decode())

    def _heard_exit(self, body: bytes) -> None:
        report = ExitReport.from_bytes(body)
        with self._lock:
            worker = self._workers.get(report.rank)
            if worker and worker.order.attempt == report.attempt:
                worker.report = report


HEARD: dict[bytes, Callable[[Workers, bytes], None]] = {
    b"beat": Workers._heard_beat,
    b"copy": Workers._heard_copy,
    b"full": Workers._heard_full,
    b"exit": Workers._heard_exit,
}


def tail(path: str) -> str:
    """The last of a worker's log; empty if there is none."""
    with suppress(OSError):
        return Path(path).read_text(errors="replace")[-TAIL:].strip()
    return ""


def _py_spy(pid: int) -> str | None:
    program = shutil.which("py-spy")
    if program is None:
        return None
    done = subprocess.run(
        [program, "dump", "--nonblocking", "--pid", str(pid)], check=False, capture_output=True, text=True, timeout=5
    )
    return done.stdout[-TAIL:] if done.returncode == 0 else None


def _receive(control: socket.socket) -> bytes:
    try:
        return control.recv(PACKET)
    except OSError:
        return b""


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
