"""Workers forked from one warm process, as the runtime's agent does it: torch is imported once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from opt_api.documents.exit_report import ExitReport
from opt_trainer.program.config import WorkerConfig

DEADLINE_S = 120.0


@dataclass(frozen=True)
class Job:
    """One worker to fork.

    Attributes:
        config: Its orders.
        environment: Added to its environment; where the gang meets.
        memory_limit: Bytes of address space it may add to what the warm process has; None for no limit.
    """

    config: WorkerConfig
    environment: dict[str, str] = field(default_factory=dict)
    memory_limit: int | None = None

    @property
    def series(self) -> Path:
        """Where it records its steps."""
        return self.config.work / f"series-{self.config.rank}"

    @property
    def seen(self) -> Path:
        """Where it records the blocks it was given."""
        return self.config.work / f"blocks-{self.config.rank}"

    def report(self) -> ExitReport:
        """What it said at its end."""
        return ExitReport.from_bytes(self.config.report_path.read_bytes())


class Warm:
    """The warm process and its children; leaving it kills what still runs."""

    def __enter__(self) -> Self:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,))
        self._process.start()
        self._pids: set[int] = set()
        assert self._ask("ready") == "ready"
        return self

    def __exit__(self, *problem: type[BaseException] | BaseException | TracebackType | None) -> None:
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._pipe.close()
        self._process.join(10)
        self._process.kill()

    def start(self, job: Job) -> int:
        """Fork a worker; returns its process id."""
        pid = int(self._ask("fork", job))
        self._pids.add(pid)
        return pid

    def wait(self, pid: int, timeout_s: float = DEADLINE_S) -> int | None:
        """Exit code of a worker, minus the signal's number if one ended it; None if it still runs after the timeout."""
        deadline = time.monotonic() + timeout_s
        while (code := self._ask("poll", pid)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if code is not None:
            self._pids.discard(pid)
        return None if code is None else int(code)

    def run(self, jobs: list[Job], timeout_s: float = DEADLINE_S) -> list[int | None]:
        """Fork a gang and wait for all of it."""
        pids = [self.start(job) for job in jobs]
        return [self.wait(pid, timeout_s) for pid in pids]

    def _ask(self, *request: Any) -> Any:
        self._pipe.send(request)
        assert self._pipe.poll(DEADLINE_S), f"the warm process did not answer {request[0]!r}"
        return self._pipe.recv()


def _serve(pipe: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(EOFError):
        while True:
            what, *arguments = pipe.recv()
            pipe.send({"ready": lambda: "ready", "fork": _fork, "poll": _poll}[what](*arguments))


def _fork(job: Job) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = _work(job)
        finally:
            os._exit(code)
    return pid


def _poll(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _work(job: Job) -> int:
    from opt_api.documents.exit_report import EXIT_CODES
    from opt_trainer.program import worker
    from support.recorder import Recorder

    os.environ.update(job.environment)
    job.config.work.mkdir(parents=True, exist_ok=True)
    if job.memory_limit is not None:
        _limit(job.memory_limit)
    _watch_blocks(job.seen)
    report = worker.run(job.config, lambda *_: Recorder(job.series))
    return EXIT_CODES[report.cause]


def _limit(more: int) -> None:
    import resource

    import psutil

    size = psutil.Process().memory_info().vms + more
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _watch_blocks(path: Path) -> None:
    """Write down what the real loader hands out."""
    from opt_trainer.data.loader import BlockLoader

    file, hand_out = path.open("a", buffering=1), BlockLoader.next

    def watched(self: BlockLoader) -> Any:
        batch = hand_out(self)
        file.write(json.dumps([batch.step, *batch.blocks]) + "\n")
        return batch

    BlockLoader.next = watched  # type: ignore[method-assign]
