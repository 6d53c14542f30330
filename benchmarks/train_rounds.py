"""Runners side by side, each a process that is warm once and then steps in rounds, one runner at a time.

A gate is a folder: a runner (every worker of it) that comes to round R writes `at-R` and waits for `go-R`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opt_runtime.agent.workers import KEEP_MEMORY

_POLL_S = 0.005
_PARENT = os.getppid()
PLAIN = {"THP_MEM_ALLOC_ENABLE": "0"}
"""Peers run as torch comes."""
AS_WORKERS = {"THP_MEM_ALLOC_ENABLE": "1", **KEEP_MEMORY}
"""What our workers run with: huge pages (`opt_trainer`), and a step's memory kept for the next (their agent)."""


@dataclass(frozen=True)
class Gate:
    """Where a runner waits before each round.

    Attributes:
        folder: Of the files.
        warmup: Steps before the first round.
        per_round: Steps of a round.
    """

    folder: str
    warmup: int
    per_round: int

    def before(self, step: int) -> None:
        """Wait where `step`, from 1, begins a round; end if the benchmark has ended meanwhile, however it did."""
        timed = step - self.warmup - 1
        if not self.folder or timed < 0 or timed % self.per_round:
            return
        number = timed // self.per_round
        (Path(self.folder) / f"at-{number}").touch()
        while not (Path(self.folder) / f"go-{number}").exists():
            if os.getppid() != _PARENT:
                sys.exit("the benchmark that this runner belongs to has ended")
            time.sleep(_POLL_S)


class Runner:
    """A runner's process; leaves nothing behind when it is closed."""

    def __init__(self, script: str, job: Mapping[str, Any], gate: Path, environment: Mapping[str, str]) -> None:
        gate.mkdir()
        self._gate, self._log = gate, (gate / "stderr").open("w")
        command = [sys.executable, "-W", "ignore", script, "--worker", json.dumps(job)]
        self._out = (gate / "stdout").open("w")
        self._process = subprocess.Popen(command, stdout=self._out, stderr=self._log, env={**os.environ, **environment})

    def await_round(self, number: int) -> None:
        """Until it waits before this round, or has ended well."""
        while not (self._gate / f"at-{number}").exists():
            code = self._process.poll()
            if code:
                raise RuntimeError(
                    f"{self._gate.name} ended with {code}:\n{(self._gate / 'stderr').read_text()[-3000:]}"
                )
            if code == 0:
                return
            time.sleep(_POLL_S)

    def go(self, number: int) -> None:
        """Let it run a round, and wait for its end."""
        (self._gate / f"go-{number}").touch()
        self.await_round(number + 1)

    def result(self) -> dict[str, Any]:
        """What it printed last."""
        self.await_round(1 << 30)
        found: dict[str, Any] = json.loads((self._gate / "stdout").read_text().splitlines()[-1])
        return found

    def close(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()
        self._process.wait()
        self._out.close()
        self._log.close()


def in_rounds(
    script: str, jobs: Mapping[str, dict[str, Any]], environments: Mapping[str, Mapping[str, str]], rounds: int
) -> dict[str, dict[str, Any]]:
    """Results of all runners, whose rounds were interleaved; each `job["job"]` is told its gate."""
    names = list(jobs)
    with tempfile.TemporaryDirectory() as folder:
        runners = {}
        for name, job in jobs.items():
            gate = Path(folder) / name.replace(" ", "-")
            told = {**job, "job": {**job["job"], "gate": str(gate)}}
            runners[name] = Runner(script, told, gate, environments.get(name, {}))
        try:
            for runner in runners.values():
                runner.await_round(0)
            for number in range(rounds):
                first = number % len(names)
                for name in names[first:] + names[:first]:
                    runners[name].go(number)
            return {name: runner.result() for name, runner in runners.items()}
        finally:
            for runner in runners.values():
                runner.close()
