"""The first process of a machine: keeps the services in its folder running, and ends with its owner.

It is process 1 of its own process namespace, so the whole machine dies with it, pods included, whatever killed it.
Each file `services/NAME.json` (see `Service`) is a program to keep running; a file that goes away stops its program.
It is run as a program of its own, in the namespaces that `machine.py` makes for it.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from optcluster import cgroups

LOOK_EVERY_S = 0.1
START_AGAIN_AFTER_S = 0.5


@dataclass(frozen=True)
class Service:
    """A program that the machine keeps running."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Hands the service to the machine whose service folder this is."""
        temporary = folder / f".{self.name}"
        temporary.write_text(json.dumps(asdict(self)))
        temporary.rename(folder / f"{self.name}.json")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads what `write` wrote."""
        document = json.loads(path.read_text())
        return cls(document["name"], tuple(document["command"]), document["environment"])


@dataclass(frozen=True)
class Layout:
    """What a machine looks like from inside: its name, its control group, and the folders that are its own.

    `own` maps a path that every service sees to the folder behind it; `empty` are paths that start empty in memory.
    """

    hostname: str
    group: str
    empty: tuple[str, ...] = ()
    own: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Keeps the layout with the machine."""
        (folder / "machine.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads what `write` wrote."""
        document = json.loads((folder / "machine.json").read_text())
        return cls(document["hostname"], document["group"], tuple(document["empty"]), document["own"])

    def apply(self) -> None:
        """Gives the calling process's namespaces their name and their mounts."""
        socket.sethostname(self.hostname)
        # kubelets hand mounts on to containers and back, so mounts must be shared within the machine
        _mount("--make-rshared", "/")
        for path in self.empty:
            _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", path)
        for path, source in self.own.items():
            Path(path).mkdir(parents=True, exist_ok=True)
            _mount("--bind", source, path)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, stdin=subprocess.DEVNULL)


class Init:
    """Keeps the services of one machine running until its owner is gone or it is told to end."""

    def __init__(self, folder: Path, layout: Layout, owner: int | None) -> None:
        self.folder, self.group, self.owner = folder, layout.group, owner
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.not_before: dict[str, float] = {}
        self.ending = False

    def run(self) -> None:
        """Returns when told to end, with the services stopped in turn; or when the owner is gone, at once.

        The kernel ends what is left of the machine with its process 1.
        """
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while not self.ending and self._owner_lives():
            self._match_services()
            self._reap_orphans()
            time.sleep(LOOK_EVERY_S)
        cgroups.thaw_all(self.group)  # a frozen process cannot die
        for name in reversed(list(self.running)) if self.ending else ():
            self._stop(name)

    def _end(self, *_: object) -> None:
        self.ending = True

    def _owner_lives(self) -> bool:
        """`owner` is a pidfd: readable when the process is gone, immune to reused pids, and valid across namespaces."""
        if self.owner is None:
            return True
        return not select.select([self.owner], [], [], 0)[0]

    def _match_services(self) -> None:
        wanted = {path.stem: path for path in sorted((self.folder / "services").glob("[!.]*.json"))}
        for name in [name for name in self.running if name not in wanted]:
            self._stop(name)
        for name, path in wanted.items():
            self._look_after(name, path)

    def _look_after(self, name: str, path: Path) -> None:
        if name in self.running:
            code = self.running[name].poll()
            if code is None:
                return
            self._log(f"{name} ended with {code}; it is started again")
            del self.running[name]
            self.not_before[name] = time.monotonic() + START_AGAIN_AFTER_S
        if time.monotonic() >= self.not_before.get(name, 0.0):
            with contextlib.suppress(FileNotFoundError):
                self._start(Service.read(path))

    def _start(self, service: Service) -> None:
        with (self.folder / "logs" / f"{service.name}.log").open("ab") as log:
            child = subprocess.Popen(
                service.command,
                env={**os.environ, **service.environment},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder, start_new_session=True,
                preexec_fn=lambda: cgroups.enter(f"{self.group}/system"),  # noqa: PLW1509 - there are no threads here
            )  # fmt: skip
        self.running[service.name] = child
        self._log(f"{service.name} started as process {child.pid} of this machine")

    def _stop(self, name: str, patience_s: float = 5.0) -> None:
        child = self.running.pop(name)
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience_s)
        child.kill()
        child.wait()
        self._log(f"{name} stopped")

    def _reap_orphans(self) -> None:
        """Children of ended services (container shims) fall to process 1, which must collect them; ours stay ours."""
        own = {child.pid for child in self.running.values()}
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid in own:
                return
            os.waitpid(ended.si_pid, 0)

    def _log(self, message: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {message}", flush=True)


def main() -> None:
    """Arguments: the machine's folder, and its owner's pidfd or `-`."""
    folder, owner = Path(sys.argv[1]), sys.argv[2]
    layout = Layout.read(folder)
    layout.apply()
    Init(folder, layout, None if owner == "-" else int(owner)).run()


if __name__ == "__main__":
    main()
