"""Our side of the recovery benchmark: a local cluster of real processes, as `optctl run` starts it, and its faults."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import recovery_job as job

from opt_api.documents.logbook import LogbookEntry
from opt_api.documents.plan import Plan
from opt_api.resolve import resolve
from opt_api.resources import OPTTraining
from opt_cli.worker_entry_names import DATASET, ENTRY, PLAN, STORE
from opt_runtime.local.cluster import LocalCluster, kill
from opt_runtime.records.logbook import Logbook
from opt_store import open_store

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
NAME = "recovery"


def plan_of(*, hosts: int = job.RANKS, memory: bool = True, model: dict[str, Any] | None = None, **layout: Any) -> Plan:
    """Our plan of the common job: each rank on a host of its own, equal replicas, no save on the way."""
    tokens = job.SEQUENCES * job.LENGTH
    shape = {
        "preset": "custom", "layers": job.LAYERS, "heads": job.HEADS, "hiddenSize": job.HIDDEN,
        "ffnSize": 4 * job.HIDDEN, "vocabularySize": job.VOCABULARY, "maxPositions": 2 * job.LENGTH,
    }  # fmt: skip
    spec = {
        "model": model or shape,
        "data": {"dataset": "file:///none/manifest.json", "sequenceLength": job.LENGTH},
        "optimisation": {
            "batchTokens": tokens, "totalTokens": 1_000_000 * tokens, "warmupTokens": 10 * tokens,
            "learningRate": job.RATE,
        },
        "parallelism": {"hosts": hosts, "device": "cpu", "shard": 1, **layout},
        "precision": {"compute": "float32"},
        "checkpointing": {"interval": {"steps": 10_000_000}, "export": False, "memoryTier": memory},
        "evaluation": {"intervalSteps": 10_000_000},
        "pods": {"resources": {"memory": "12Gi"}},
        "resilience": {"divergence": {"lossSpikeRatio": 1000}},
    }  # fmt: skip
    document = {"apiVersion": "opt-operator.io/v1alpha1", "kind": "OPTTraining", "metadata": {"name": NAME}}
    return resolve(OPTTraining.model_validate({**document, "spec": spec}))


@dataclass(frozen=True)
class Step:
    """One step that rank 0 did."""

    at: float
    attempt: int
    step: int
    seconds: float
    loss: float


class Ours:
    """A cluster at work; leave it to end everything it started."""

    def __init__(self, folder: Path, plan: Plan, spares: int = 0, vocabulary: int = job.VOCABULARY) -> None:
        from support.datasets import write_dataset

        shutil.rmtree(folder, ignore_errors=True)
        self.folder, self.plan = folder / "run", plan
        (folder / "store").mkdir(parents=True)
        self.url = f"file://{folder}/store"
        write_dataset(open_store(self.url), "data", train=(400, 100), sequence_length=job.LENGTH, vocabulary=vocabulary)
        told = {
            PLAN: str(self.folder / "plan.json"), STORE: self.url, DATASET: f"{self.url}/data/manifest.json",
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        names = [f"host-{number}" for number in range(plan.layout.hosts + spares)]
        self.cluster = LocalCluster(plan, self.url, self.folder, ENTRY, names, told)

    def __enter__(self) -> Ours:
        self.cluster.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.stop()
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    def steps(self) -> list[Step]:
        """All steps that rank 0 recorded, wherever it ran, in the order of time."""
        paths = self.folder.glob("host-*/telemetry/metrics-000000.jsonl")
        lines = [line for path in paths for line in path.read_text().rpartition("\n")[0].splitlines()]
        entries = [entry for entry in map(json.loads, lines) if entry["kind"] == "step"]
        found = [Step(e["epoch_seconds"], e["attempt"], e["step"], e["step_seconds"], e["loss"]) for e in entries]
        return sorted(found, key=lambda step: step.at)

    def await_steps(self, count: int, attempt: int, timeout_s: float = 120) -> None:
        """Wait for so many steps of an attempt."""
        self.wait(lambda: sum(step.attempt == attempt for step in self.steps()) >= count, timeout_s)

    def wait(self, condition: Callable[[], bool], timeout_s: float = 120) -> None:
        """Wait for anything."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.cluster.status()}\n{self.log()}")
            time.sleep(0.05)

    def status(self) -> dict[str, Any]:
        """The coordinator's word."""
        found: dict[str, Any] | None = None
        while found is None:
            found = self.cluster.status()
        return found

    def kill_rank(self, rank: int, number: signal.Signals = signal.SIGKILL) -> float:
        """Signal a rank; the moment."""
        pid = next(w["pid"] for w in self.status()["workers"] if w["rank"] == rank)
        at = time.time()
        kill(pid, number)
        return at

    def kill_host(self) -> tuple[float, str]:
        """SIGKILL of the agent of the last rank's host, and of all its processes with it; the moment and the host."""
        host = max(self.status()["workers"], key=lambda w: w["rank"])["host"]
        at = time.time()
        kill(self.cluster.programs[host].pid, signal.SIGKILL)
        return at, host

    def recoveries(self) -> list[LogbookEntry]:
        """What the logbook has of recoveries so far."""
        return [entry for entry in Logbook(open_store(self.url), NAME).read() if entry.rung]

    def log(self) -> str:
        """The end of everything that was written."""
        files = sorted(self.folder.rglob("*.log"), key=os.path.getmtime)[-6:]
        return "\n".join(f"--- {f}\n{f.read_text(errors='replace')[-1500:]}" for f in files)


def series_of(steps: list[Step]) -> dict[int, set[float]]:
    """Every loss that was recorded of each step."""
    found: dict[int, set[float]] = {}
    for step in steps:
        found.setdefault(step.step, set()).add(step.loss)
    return found
