"""`optctl run` with the real trainer: a fault, a live change, Ctrl-C, the same command again, a model at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from opt_runtime.local.cluster import wait_for
from opt_runtime.wire import Client, Gone
from support.ledger_check import assert_ledger_adds_up
from support.small_spec import SPEC

pytestmark = pytest.mark.integration
STEPS = 1000
"""So many that a person has the time for a few commands before the run is over, on a fast machine too."""


def command(name: str, *arguments: str) -> list[str]:
    # a test run in the background of a script ignores SIGINT, and would hand that down
    heard = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heard}; from opt_cli.main import main; main(sys.argv[1:])"
    return [sys.executable, "-c", code, name, *arguments]


class Shell:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("spec.yaml")
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def write(self, name: str, **changed: Any) -> None:
        """The spec, with other fields of its optimisation."""
        optimisation = {**SPEC["spec"]["optimisation"], "totalTokens": 256 * STEPS, **changed}
        spec = {**SPEC, "spec": {**SPEC["spec"], "optimisation": optimisation}}
        (self.folder / name).write_text(yaml.safe_dump(spec))

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(name, *arguments),
            check=False,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def quickly(self) -> dict:
        """The running coordinator's own word, without starting a program to ask."""
        path = self.folder / "runs/.scratch/small/coordinator.json"
        if not path.exists():
            return {"step": -1}
        client = Client(json.loads(path.read_text())["address"])
        try:
            return json.loads(client.ask("GET", "/status"))
        except Gone:
            return {"step": -1}
        finally:
            client.close()

    def status(self) -> dict:
        found = self.run("status", "small", "--json")
        return json.loads(found.stdout) if found.returncode == 0 else {"step": -1, "phase": found.stderr}


def test_a_run_is_hurt_changed_interrupted_and_finished_by_the_same_command(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    run = ["spec.yaml", "--json", "--fault", "kill rank 1 at step 25"]
    log = (tmp_path / "first.log").open("w")
    with (
        log,
        subprocess.Popen(command("run", *run), cwd=tmp_path, env=shell.environment, stdout=log, stderr=log) as first,
    ):
        assert wait_for(lambda: shell.quickly()["step"] >= 5, 180), (tmp_path / "first.log").read_text()[-3000:]
        changed = shell.run("set", "small", "optimisation.learningRate=5e-4", "--reason", "to see it")
        assert changed.returncode == 0, changed.stderr
        assert wait_for(lambda: shell.quickly().get("attempt") == 2 and shell.quickly()["step"] >= 30, 180)
        live = shell.status()
        assert live["step"] < STEPS
        assert {w["rank"] for w in live["workers"]} == {0, 1}
        assert all(w["pid"] and w["host"] for w in live["workers"])
        assert all(a["pid"] and a["host"] for a in live["agents"])
        first.send_signal(signal.SIGINT)
        assert first.wait(180) == 0, (tmp_path / "first.log").read_text()[-3000:]
    left = shell.status()
    assert (left["phase"], left["pausedFor"]) == ("paused", "Suspended")

    second = shell.run("run", "spec.yaml", "--json")
    assert second.returncode == 0, second.stderr + second.stdout[-3000:]
    result = json.loads(second.stdout.splitlines()[-1])["result"]
    assert (result["step"], set(result["validationLoss"])) == (STEPS, {"licences"})
    assert result["export"].endswith("/export")
    entries = json.loads(shell.run("logbook", "small", "--json").stdout)
    causes = [entry["cause"] for entry in entries]
    assert causes[:1] + causes[-1:] == ["Started", "Completed"]
    assert {"LiveChange", "WorkerKilled", "Suspended", "Resumed"} <= set(causes), entries
    change = next(entry for entry in entries if entry["cause"] == "LiveChange")
    assert change["changes"] == [{"field": "optimisation.learningRate", "before": "0.001", "after": "0.0005"}]
    assert entries[-1]["toStep"] == STEPS
    exported = list((tmp_path / "runs/small").rglob("export/*.safetensors"))
    assert exported
    assert "WorkerKilled  rung" in shell.run("logbook", "small").stdout
    assert_ledger_adds_up((tmp_path / "runs/small").as_uri(), "small")
    answer = shell.run("generate", "small", "--prompt", "This program", "--max-tokens", "5", "--temperature", "0")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("This program")

    shell.write("other.yaml", beta2=0.98)
    refused = shell.run("run", "other.yaml")
    assert refused.returncode == 2
    assert "differs in recipe" in refused.stderr


def test_a_data_set_that_does_not_fit_a_hosts_disk_is_refused_before_the_first_step(tmp_path: Path) -> None:
    """As the operator tells hosts what their disk has; a pod that fills more of it is evicted."""
    shell = Shell(tmp_path)
    shell.environment |= {"OPT_RUN_DISK": "100000"}
    found = shell.run("run", "spec.yaml", "--json")
    assert found.returncode == 1
    words = "pods.resources.ephemeralStorage is 100000; raise it to 1Mi"
    assert "paused for BadSpec: rank" in found.stderr
    assert words in found.stderr
    entries = [json.loads(line)["entry"] for line in found.stdout.splitlines() if line.startswith('{"entry"')]
    assert [entry["cause"] for entry in entries] == ["Started", "BadSpec"], "the logbook is told to its end"
    assert words in entries[-1]["summary"]
    assert shell.status()["step"] == 0
