"""The rendezvous as a program."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.integration
def test_it_ends_when_told_even_as_the_first_process_of_a_container() -> None:
    """Linux drops a signal that such a process neither handles nor blocks; what it blocks reaches its `sigwait`.

    The thread in `sigwait` shows as blocking nothing; the store's own ones have what was blocked when they began.
    """
    command = [sys.executable, "-m", "opt_runtime.rendezvous", "--port", "0", "--die-with-parent"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline().startswith("rendezvous on 127.0.0.1:")
            threads = Path(f"/proc/{program.pid}/task").iterdir()
            others = [thread for thread in threads if thread.name != str(program.pid)]
            assert others
            assert all(_blocks(thread / "status") for thread in others)
            program.send_signal(signal.SIGTERM)
            assert program.wait(30) == 0
        finally:
            program.kill()


def _blocks(status: Path) -> bool:
    line = next(line for line in status.read_text().splitlines() if line.startswith("SigBlk:"))
    return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
