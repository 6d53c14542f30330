"""Starts and supervises the processes of a run on this machine, as Kubernetes does in a cluster.

Coordinator and rendezvous are started again when they die. A host whose agent dies is lost: its processes die with it,
and it comes back only when it is told to.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opt_api.documents.plan import Plan
from opt_runtime.coordinator.__main__ import REPLACED
from opt_runtime.wire import Client, Gone

SUPERVISE_S = 0.1
END_S = 10.0
LOOPBACK = "127.0.0.1"


@dataclass
class Program:
    """One supervised program."""

    command: list[str]
    log: Path
    keep: bool
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self, environment: dict[str, str]) -> None:
        """Start it in a session of its own, so that signals for the terminal do not reach it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        self.starts += 1

    @property
    def pid(self) -> int:
        """Process id; 0 before the first start."""
        return self.process.pid if self.process else 0

    def exit_code(self) -> int | None:
        """Code it ended with; None while it runs, or before it was started."""
        return self.process.poll() if self.process else None


@dataclass(frozen=True, slots=True)
class Room:
    """Where a host's processes run: behind a command, at an address."""

    command: tuple[str, ...] = ()
    address: str = LOOPBACK


@dataclass
class LocalCluster:
    """Hosts `host-0`, `host-1`, ... of one training.

    Attributes:
        plan: What is trained.
        store: URL of the store.
        directory: Scratch folder of everything but the store.
        entry: Worker entry, `package.module:function`.
        hosts: Names of the hosts, spares included.
        environment: Variables that all programs get on top of this process's own.
        address_here: Where hosts find coordinator and rendezvous.
        rooms: What a host's command is put behind, and the address it has there: a name space of its own, say.
    """

    plan: Plan
    store: str
    directory: Path
    entry: str
    hosts: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    """Programs that are not started again for now."""
    address_here: str = LOOPBACK
    rooms: dict[str, Room] = field(default_factory=dict)
    checks: bool = False
    """Whether hosts burn in before they may train."""
    shared: bool = True
    """Hosts share this machine: their speeds under load are told and not judged."""
    machines: dict[str, str] = field(default_factory=dict)
    """Hardware identity by host name."""

    def start(self) -> None:
        """Start everything. Call `stop` in the end."""
        self.directory.mkdir(parents=True, exist_ok=True)
        plan = self.directory / "plan.json"
        plan.write_bytes(self.plan.to_bytes())
        self._ended = threading.Event()
        self._kept = [kept_port(self.address_here) for _ in range(2)]
        self.address, self.rendezvous = (f"{self.address_here}:{kept.getsockname()[1]}" for kept in self._kept)
        self.client = Client(self.address, timeout_s=5.0)
        there, _, port = self.rendezvous.rpartition(":")
        self._add("rendezvous", ["opt_runtime.rendezvous", "--host", there, "--port", port], keep=True)
        self._add(
            "coordinator",
            ["opt_runtime.coordinator", "--plan", str(plan), "--store", self.store, "--rendezvous", self.rendezvous,
             "--listen", self.address],
            keep=True,
        )  # fmt: skip
        for host in self.hosts:
            self._add(host, self._agent(host), keep=False)
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End every process of the cluster and wait until it is gone; the coordinator first writes what it decided."""
        self._ended.set()
        self._thread.join()
        self.client.close()
        coordinator = self.programs["coordinator"]
        if coordinator.process and coordinator.exit_code() is None:
            kill(coordinator.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                coordinator.process.wait(END_S)
        for program in self.programs.values():
            if program.exit_code() is None:
                kill(program.pid, signal.SIGKILL)
        for program in self.programs.values():
            if program.process:
                program.process.wait()
        for kept in self._kept:
            kept.close()

    def status(self) -> dict[str, Any] | None:
        """What the coordinator says; None while it does not answer."""
        with suppress(Gone, ValueError):
            found: dict[str, Any] = json.loads(self.client.ask("GET", "/status"))
            return found
        return None

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Tell the coordinator something.

        Raises:
            opt_runtime.wire.Gone: It does not answer.
            ValueError: It refuses; the message says why.
        """
        answer: dict[str, Any] = json.loads(self.client.ask("POST", path, json.dumps(body).encode()))
        return answer

    def finished(self) -> bool:
        """Whether the coordinator ended by itself, the training being complete."""
        return self.programs["coordinator"].exit_code() == 0

    def host_returns(self, host: str, name: str | None = None) -> None:
        """Start a lost host again, the same machine, under the same name or another."""
        old = self.programs.pop(host)
        old.process and old.process.wait()
        name = name or host
        self.machines[name] = self.machines[host]
        self._add(name, self._agent(name), keep=False)

    def _check(self) -> list[str]:
        if not self.checks or not self.plan.resilience.host_checks.enabled:
            return []
        seconds = str(self.plan.resilience.host_checks.seconds)
        shared = ["--shared-machine"] if self.shared else []
        return ["--check-seconds", seconds, "--check-with", self.rendezvous, *shared]

    def _agent(self, host: str) -> list[str]:
        hardware = self.machines.setdefault(host, f"machine-{host}")
        return [
            "opt_runtime.agent", "--run", self.plan.name, "--host", host, "--hardware", hardware,
            "--listen", f"{self.rooms.get(host, Room()).address}:0",
            "--directory", str(self.directory / host), "--coordinator", self.address, "--entry", self.entry,
            "--workers", str(self.plan.layout.devices_per_host), *self._check(),
        ]  # fmt: skip

    def _add(self, name: str, module: list[str], *, keep: bool) -> None:
        command = [*self.rooms.get(name, Room()).command, sys.executable, "-m", *module, "--die-with-parent"]
        program = Program(command, self.directory / f"{name}.log", keep)
        self.programs[name] = program
        program.start({**os.environ, "OMP_NUM_THREADS": "1", **self.environment})

    def _supervise(self) -> None:
        """Start again what has to be there; bury the rest."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **self.environment}
        while not self._ended.wait(SUPERVISE_S):
            for name, program in list(self.programs.items()):
                code = program.exit_code()
                if program.keep and name not in self.held and code not in (None, 0, REPLACED):
                    program.start(environment)


def kill(pid: int, number: signal.Signals) -> None:
    """A signal, if the process is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_for(condition: Any, timeout_s: float, interval_s: float = 0.05) -> bool:
    """Wait until `condition()` is true; False if time ran out first."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(interval_s)
    return False


def kept_port(address: str) -> socket.socket:
    """Keep a port, until the socket is closed, for a program that is told its number and listens with SO_REUSEADDR.

    The system gives it to nobody who asks for any port, so that neither a host's agent nor a connection can have it
    before that program has started, or while it is started again.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind((address, 0))
    return kept
