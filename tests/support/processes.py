"""Programs started for a test: they die with the test run, however that ends, and say why they did not start."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    ready: Callable[[], bool],
    *,
    environment: dict[str, str],
    deadline_s: float,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program from when it is ready to the end of the block.

    Raises:
        RuntimeError: It ended early, or was not ready in time; the message ends with its log.
    """
    # setpriv (util-linux) makes the kernel kill the program when this process is gone.
    words = ["setpriv", "--pdeathsig", "KILL", *map(str, command)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=log.parent,
        )
    try:
        _wait_until(ready, process, words[3], log, deadline_s)
        yield process
    finally:
        process.kill()  # what it holds is a test's
        process.wait()


def _wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], program: str, log: Path, deadline_s: float
) -> None:
    end = time.monotonic() + deadline_s
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            state = "is not ready" if process.poll() is None else f"ended with {process.returncode}"
            tail = log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{program} {state} after at most {deadline_s} s; its log ends:\n{tail}")
        time.sleep(0.05)
