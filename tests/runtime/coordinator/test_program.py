"""The coordinator as a program: what it has decided is written before it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from opt_api.documents.exit_report import EXIT_CODES
from opt_runtime.coordinator.__main__ import LEFT
from opt_runtime.local.cluster import wait_for
from opt_runtime.messages import AgentReport, AgentWord
from opt_runtime.records.logbook import Logbook
from opt_runtime.wire import Client, Gone
from opt_store import open_store
from support.local_run import tiny_plan
from support.processes import free_ports

pytestmark = pytest.mark.integration
WORDS = 300
"""So many entries that writing them takes much longer than a signal."""


def test_a_coordinator_that_is_told_to_leave_writes_what_it_knows_first(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_bytes(tiny_plan().to_bytes())
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    program = subprocess.Popen(
        [sys.executable, "-m", "opt_runtime.coordinator", "--plan", str(plan), "--store", tmp_path.as_uri(),
         "--rendezvous", "127.0.0.1:1", "--listen", address, "--die-with-parent"],
    )  # fmt: skip
    client = Client(address)
    words = tuple(AgentWord(cause="OutOfMemory", text=f"word {number}") for number in range(WORDS))
    report = AgentReport(run="tiny", host="h0", hardware="m0", pid=1, address="h0:1", words=words)
    try:
        assert wait_for(lambda: _answers(client), 60)
        client.ask("POST", "/report", report.to_bytes())
        program.send_signal(signal.SIGTERM)
        assert program.wait(60) == LEFT
    finally:
        client.close()
        program.kill()
        program.wait()
    said = [entry.summary for entry in Logbook(open_store(tmp_path.as_uri()), "tiny").read()]
    assert [summary for summary in said if summary.startswith("word")] == [word.text for word in words]


def test_a_coordinator_that_cannot_reach_the_store_says_so_by_its_exit_code(tmp_path: Path) -> None:
    """Else the operator takes it for a fault of its own, which counts against the budget."""
    plan = tmp_path / "plan.json"
    plan.write_bytes(tiny_plan().to_bytes())
    login = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
    done = subprocess.run(
        [sys.executable, "-m", "opt_runtime.coordinator", "--plan", str(plan), "--store", "s3://bucket/runs",
         "--rendezvous", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--die-with-parent"],
        env={**os.environ, **login, "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_REGION": "us-east-1"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == EXIT_CODES["StoreUnavailable"], done.stderr
    assert done.stderr.startswith("the coordinator cannot read what was decided before: ")
    assert len(done.stderr.splitlines()) == 1


def _answers(client: Client) -> bool:
    try:
        client.ask("GET", "/status")
    except Gone:
        return False
    return True
