"""The agent as a program, where no worker can be started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.integration
def test_an_agent_whose_workers_cannot_be_started_ends_and_says_why(tmp_path: Path) -> None:
    """As in an image whose torch lacks a library: it had tried for ever, and nobody had known."""
    command = [
        sys.executable, "-m", "opt_runtime.agent", "--run", "small", "--host", "host-0", "--hardware", "machine-0",
        "--directory", str(tmp_path), "--coordinator", "127.0.0.1:1", "--entry", "opt_no_such_module:run",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("No module named 'opt_no_such_module'") == 3
    assert done.stderr.splitlines()[-1] == (
        "no worker can be started on this host: the process that is to fork them (entry opt_no_such_module:run) ended "
        "3 times before it was ready, the last time with code 1; what it said is above"
    )
