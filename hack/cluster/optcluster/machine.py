"""A machine: namespaces of its own, a control group, a link to the others, and services that it keeps running."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from optcluster import cgroups, procs
from optcluster.errors import ClusterError
from optcluster.init import Layout, Service
from optcluster.procs import Process

NAMESPACES = ("--mount", "--net", "--uts", "--ipc", "--pid")


@dataclass(frozen=True)
class Machine:
    """One machine of a cluster. All its state is in `folder` and in the kernel, so any process may handle it."""

    name: str
    folder: Path
    group: str

    def boot(self, layout: Layout, owner: Process | None) -> None:
        """Starts the machine, without services; it ends by itself when `owner` does.

        Raises:
            ClusterError: it ended at once.
        """
        shutil.rmtree(self.folder / "services", ignore_errors=True)
        for part in ("services", "logs"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        for part in ("system", "pods"):
            cgroups.create(f"{self.group}/{part}")
        layout.write(self.folder)
        outer = self._spawn(owner)
        (self.folder / "process.json").write_text(json.dumps([outer.pid, outer.started]))
        self._wait_for_init(outer)

    def _spawn(self, owner: Process | None) -> Process:
        watched = os.pidfd_open(owner.pid) if owner else None
        command = [
            "unshare", *NAMESPACES, "--propagation", "private", "--fork", "--kill-child", "--mount-proc", "--",
            sys.executable, "-m", "optcluster.init", str(self.folder), "-" if watched is None else str(watched),
        ]  # fmt: skip
        with (self.folder / "logs" / "init.log").open("ab") as log:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                pass_fds=() if watched is None else (watched,),
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            )  # fmt: skip
        if watched is not None:
            os.close(watched)
        _children[child.pid] = child
        return procs.identify(child.pid)

    def _wait_for_init(self, outer: Process, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not outer.children():
            if not outer.alive or time.monotonic() > deadline:
                raise ClusterError(f"machine {self.name} did not start:\n{self.log_tail('init')}")
            time.sleep(0.01)

    @property
    def process(self) -> Process | None:
        """The process that holds the machine's namespaces, if the machine was ever started."""
        try:
            pid, started = json.loads((self.folder / "process.json").read_text())
        except FileNotFoundError:
            return None
        return Process(pid, started)

    @property
    def is_up(self) -> bool:
        """Whether the machine runs (frozen or cut off counts as running)."""
        process = self.process
        return process is not None and process.alive

    def serve(self, *services: Service) -> None:
        """Starts services, or replaces those of the same name that have not started yet."""
        for service in services:
            service.write(self.folder / "services")

    def stop_service(self, name: str) -> None:
        """Stops one service for good."""
        (self.folder / "services" / f"{name}.json").unlink(missing_ok=True)

    def kill_service(self, name: str) -> None:
        """Ends the program of a service at once; the machine starts it again, as an init system does."""
        for pid in cgroups.pids(f"{self.group}/system"):
            with contextlib.suppress(OSError):
                program = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].decode()
                if Path(program).name == name:
                    os.kill(pid, signal.SIGKILL)

    def inside(self, *command: str, given: str | None = None) -> str:
        """Runs a command in all of the machine's namespaces, and returns what it printed.

        Raises:
            ClusterError: the machine is down, or the command failed; the message holds what it said.
        """
        process = self.process
        if process is None or not process.alive:
            raise ClusterError(f"machine {self.name} is not running")
        init = process.children()
        target = str(init[0].pid if init else process.pid)
        entered = ["nsenter", "--target", target, *NAMESPACES, "--", *command]
        done = subprocess.run(entered, input=given or "", capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"on {self.name}: `{' '.join(command)}` gave {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def freeze(self) -> None:
        """Stops every process of the machine, pods included, in mid-step; connections stay open and silent."""
        cgroups.freeze(self.group, frozen=True)

    def thaw(self) -> None:
        """Lets a frozen machine go on where it stood."""
        cgroups.freeze(self.group, frozen=False)

    def kill(self, seconds: float = 15.0) -> None:
        """Ends the machine at once, as if its power was cut: nothing in it gets to say goodbye.

        Raises:
            ClusterError: a process could not be ended.
        """
        process = self.process
        inits = process.children() if process else []
        for target in [*inits, *([process] if process else [])]:
            target.kill()
        cgroups.thaw_all(self.group)  # frozen processes die when they are thawed
        left = procs.wait_gone([target for target in [*inits, process] if target], seconds)
        left += self._end_group(seconds)
        if process and process.pid in _children:
            _children.pop(process.pid).wait()
        if left:
            raise ClusterError(f"machine {self.name}: processes {[found.pid for found in left]} do not end")

    def _end_group(self, seconds: float) -> list[Process]:
        """Ends what is left in the control group: a safety net, since all of it belongs to the process namespace."""
        left = [found for pid in cgroups.pids(self.group) if (found := procs.find(pid))]
        for found in left:
            found.kill()
        return procs.wait_gone(left, seconds)

    def log_tail(self, service: str, lines: int = 15) -> str:
        """The last lines that a service wrote."""
        return "\n".join(self.log(service).splitlines()[-lines:]) or f"({service} has written nothing)"

    def log(self, service: str) -> str:
        """All that a service wrote."""
        path = self.folder / "logs" / f"{service}.log"
        return path.read_text(errors="replace") if path.exists() else ""


# Machines started by this process, to be waited for when they end (a child that nobody waits for stays a zombie).
_children: dict[int, "subprocess.Popen[bytes]"] = {}
