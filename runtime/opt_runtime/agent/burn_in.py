"""The agent's part in the burn-in: start the load as a program of its own, and keep what it said."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from opt_runtime.messages import HostCheck

PATIENCE_S = 120.0
"""What a burn-in may take beyond its time: starting, finding a partner, a disk that is slow to sync."""
TAIL = 400


class BurnIn:
    """One host's check.

    Args:
        seconds: Under load; 0 for no check.
        rendezvous: Where another host is found; empty to measure no network.
        shared: Other hosts of the run are on the same machine.
    """

    def __init__(self, seconds: float = 0.0, rendezvous: str = "", *, shared: bool = False) -> None:
        self._seconds, self._rendezvous, self._shared = seconds, rendezvous, shared
        self.running = seconds > 0
        self.result: HostCheck | None = None

    def start(self, run: str, directory: Path, told: Callable[[], None]) -> None:
        """Begin, in a thread; `told` is called when it is over."""
        if self.running:
            threading.Thread(target=self._work, args=(run, directory, told), name="burn-in", daemon=True).start()

    def _work(self, run: str, directory: Path, told: Callable[[], None]) -> None:
        command = [
            sys.executable, "-m", "opt_runtime.checks", "--seconds", str(self._seconds), "--directory", str(directory),
            "--rendezvous", self._rendezvous, "--run", run,
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=self._seconds + PATIENCE_S
            )
            found = HostCheck.from_bytes(done.stdout.encode()) if done.returncode == 0 else _failed(done.stderr)
        except (subprocess.TimeoutExpired, ValidationError) as fault:
            found = _failed(str(fault))
        self.result = found.model_copy(update={"shared": self._shared})
        self.running = False
        told()


def _failed(words: str) -> HostCheck:
    return HostCheck(failure=words.strip()[-TAIL:] or "it ended without a word")
