"""A run of the tiny worker on a local cluster of real processes, with everything a fault test asks of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opt_api.documents.logbook import LogbookEntry
from opt_api.documents.plan import Plan
from opt_api.resolve.resolver import resolve
from opt_api.resources import OPTTraining
from opt_runtime.local.cluster import LocalCluster, kill, wait_for
from opt_runtime.records.logbook import Logbook
from opt_store import open_store
from support.ledger_check import assert_ledger_adds_up
from support.rooms import INTERFACE, Lan

TESTS = Path(__file__).parents[1]


def tiny_plan(hosts: int = 2, **resilience) -> Plan:
    spec = {
        "model": {"preset": "opt-125m"},
        "data": {"dataset": "file:///nowhere/manifest.json", "sequenceLength": 8},
        "optimisation": {"batchTokens": 64, "totalTokens": 64_000},
        "parallelism": {"hosts": hosts, "device": "cpu", "microBatchSequences": 1},
        "precision": {"compute": "float32"},
        "pods": {"resources": {"memory": "16Gi"}},
        "resilience": {"divergence": {"lossSpikeRatio": 1000}} | resilience,
    }
    resource = {
        "apiVersion": "opt-operator.io/v1alpha1", "kind": "OPTTraining",
        "metadata": {"name": "tiny", "namespace": "default"}, "spec": spec,
    }  # fmt: skip
    return resolve(OPTTraining.model_validate(resource))


@dataclass
class Run:
    cluster: LocalCluster
    directory: Path

    def status(self) -> dict:
        found = None

        def asked() -> bool:
            nonlocal found
            found = self.cluster.status()
            return found is not None

        assert wait_for(asked, 60), self.logs()
        return found

    def until(self, condition: Callable[[dict], object], timeout_s: float = 180) -> dict:
        last: dict = {}

        def met() -> bool:
            nonlocal last
            last = self.cluster.status() or last
            return bool(last and condition(last))

        assert wait_for(met, timeout_s), f"{last}\n{self.logs()}"
        return last

    def until_step(self, step: int) -> dict:
        return self.until(lambda s: s["step"] >= step and len(s["workers"]) > 0)

    def until_finished(self, timeout_s: float = 180) -> list[LogbookEntry]:
        assert wait_for(self.cluster.finished, timeout_s), f"{self.cluster.status()}\n{self.logs()}"
        return self.logbook()

    def logbook(self) -> list[LogbookEntry]:
        return Logbook(open_store(self.cluster.store), self.cluster.plan.name).read()

    def signal_rank(self, rank: int, number: signal.Signals) -> None:
        workers = self.until(lambda s: any(w["rank"] == rank and w["pid"] and not w["ended"] for w in s["workers"]))
        kill(next(w["pid"] for w in workers["workers"] if w["rank"] == rank), number)

    def signal_program(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        kill(self.cluster.programs[name].pid, number)

    def losses(self) -> dict[int, set[str]]:
        """Every loss that was ever written for each step: one value each, if redone steps are bit-equal."""
        found: dict[int, set[str]] = {}
        for line in (self.directory / "losses.txt").read_text().splitlines():
            step, loss = line.split()
            found.setdefault(int(step), set()).add(loss)
        return found

    def steps_written(self) -> int:
        return len((self.directory / "losses.txt").read_text().splitlines())

    def logs(self) -> str:
        files = sorted(self.directory.rglob("*.log"))
        return "\n".join(f"--- {f.name}\n{f.read_text(errors='replace')[-2500:]}" for f in files)


@contextmanager
def local_run(
    tmp_path: Path,
    steps: int = 150,
    hosts: int = 2,
    spares: int = 0,
    plan: Plan | None = None,
    lan: Lan | None = None,
    *,
    checks: bool = False,
    **environment: str,
) -> Iterator[Run]:
    directory, store = tmp_path / "run", tmp_path / "store"
    store.mkdir(parents=True)
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    cluster = LocalCluster(
        plan or tiny_plan(hosts),
        store.as_uri(),
        directory,
        "support.tiny_worker:run",
        [f"host-{n}" for n in range(hosts + spares)],
        {"PYTHONPATH": path, "TINY_STEPS": str(steps), **environment},
    )
    cluster.checks = checks
    if lan is not None:
        cluster.address_here, cluster.rooms = lan.address, lan.rooms
        cluster.environment["GLOO_SOCKET_IFNAME"] = INTERFACE
    cluster.start()
    try:
        yield Run(cluster, directory)
        assert_ledger_adds_up(store.as_uri(), "tiny")
    finally:
        cluster.stop()


def expected_losses(tmp_path: Path, steps: int, hosts: int = 2) -> dict[int, set[str]]:
    """The series of a run without faults."""
    with local_run(tmp_path / "twin", steps, hosts) as run:
        run.until_finished()
        return run.losses()
