"""A container's first process ends when it is told to, even before it is ready to do so in order."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

PROGRAM = """
import os, signal, threading
from opt_cli.process_one import end_on_sigterm
assert os.getpid() == {pid}
end_on_sigterm()
os.kill(os.getpid(), signal.SIGTERM)
threading.Event().wait(0.5)
print("lives on", flush=True)
"""


def run(*prefix: str, program: str) -> tuple[int, str]:
    done = subprocess.run([*prefix, sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip()


def test_process_one_ends_and_without_us_would_not() -> None:
    alone = ("unshare", "--pid", "--fork")
    program = PROGRAM.format(pid=1)
    assert run(*alone, program=program) == (143, "")
    assert run(*alone, program=program.replace("end_on_sigterm()\n", "")) == (0, "lives on")


def test_any_other_process_is_left_as_it_is() -> None:
    assert run(program=PROGRAM.format(pid="os.getpid()")) == (-15, "")
