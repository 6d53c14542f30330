"""Runs of the real trainer on a local cluster, with faults that are ordered: real text, real processes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opt_api.documents.logbook import LogbookEntry
from opt_api.documents.plan import Plan
from opt_api.resolve import resolve
from opt_api.resources import OPTTraining
from opt_cli.worker_entry_names import DATASET, FAULTS, PLAN, STORE
from opt_dataprep.work.driver import prepare
from opt_runtime.local.cluster import LocalCluster, wait_for
from opt_runtime.local.faults import FOLDER, FaultScript, check_fault, parse_fault
from support.ledger_check import assert_ledger_adds_up, recorded
from support.local_run import TESTS, Run
from support.paced_worker import PACE
from support.small_spec import SPEC

STEPS, BATCH = 120, 256


def small_spec(steps: int = STEPS, **sections: Mapping[str, Any]) -> OPTTraining:
    """The small training over so many steps; `sections` of the spec are merged in."""
    raw = deepcopy(SPEC)
    raw["spec"]["optimisation"]["totalTokens"] = BATCH * steps
    raw["spec"]["checkpointing"] = {"interval": {"steps": 20}, "export": False}
    raw["spec"]["evaluation"] = {"intervalSteps": 60, "maxBatches": 1}
    for name, fields in sections.items():
        raw["spec"][name] = {**raw["spec"].get(name, {}), **fields}
    return OPTTraining.model_validate(raw)


def small_dataset(folder: Path) -> str:
    """URI of the small training's data set, made in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return prepare(small_spec().spec.data, folder.as_uri(), workers=2).uri


@dataclass
class RealRun(Run):
    """A run whose losses are what rank 0 recorded."""

    script: FaultScript = field(kw_only=True)
    happened: list[str] = field(default_factory=list)

    def until(self, condition, timeout_s: float = 240) -> dict:
        """Wait, carrying out the faults that come due meanwhile, and ending those that are over."""
        last: dict = {}

        def met() -> bool:
            nonlocal last
            found = self.cluster.status()
            self.happened += self.script.look(self.cluster, found)
            last = found or last
            return bool(found and condition(found))

        assert wait_for(met, timeout_s), f"{last}\n{self.logs()}"
        return last

    def until_finished(self, timeout_s: float = 300) -> list[LogbookEntry]:
        def met() -> bool:
            self.happened += self.script.look(self.cluster, self.cluster.status())
            return self.cluster.finished()

        assert wait_for(met, timeout_s), f"{self.cluster.status()}\n{self.logs()}"
        return self.logbook()

    def losses(self) -> dict[int, set[str]]:
        """Every loss that was ever recorded for each step."""
        return losses_in(self.directory)


def losses_in(folder: Path) -> dict[int, set[str]]:
    """Every loss that rank 0 recorded for each step, wherever it ran."""
    found: dict[int, set[str]] = {}
    for path in recorded(folder):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if entry["kind"] == "step" and entry["loss"] is not None:
                found.setdefault(entry["step"], set()).add(float(entry["loss"]).hex())
    return found


@contextmanager
def real_run(
    folder: Path,
    dataset: str,
    *faults: str,
    training: OPTTraining | Plan | None = None,
    spares: int = 0,
    store: str | None = None,
    environment: Mapping[str, str] | None = None,
    pace: float = 0.04,
) -> Iterator[RealRun]:
    """A cluster with the real trainer; its ledger is held against the wall time in the end.

    Every step takes at least `pace` seconds, so that faults from outside come near the steps they are ordered for.
    """
    plan: Plan = training if isinstance(training, Plan) else resolve(training or small_spec())
    directory, local = folder / "run", folder / "store"
    directory.mkdir(parents=True, exist_ok=True)
    local.mkdir(exist_ok=True)
    url = store or local.as_uri()
    (directory / "plan.json").write_bytes(plan.to_bytes())
    names = [f"host-{n}" for n in range(plan.layout.hosts + spares)]
    planned = [parse_fault(sentence) for sentence in faults]
    for fault in planned:
        check_fault(fault, plan.layout.world_size, names, folder_store=store is None)
    script = FaultScript(planned, directory)
    script.arm()
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    variables = {
        PLAN: str(directory / "plan.json"), STORE: url, DATASET: dataset, FAULTS: str(directory / FOLDER),
        PACE: str(pace), "PYTHONPATH": path, **(environment or {}),
    }  # fmt: skip
    cluster = LocalCluster(plan, url, directory, "support.paced_worker:run", names, variables)
    cluster.start()
    try:
        yield RealRun(cluster, directory, script=script)
        script.close()
        assert_ledger_adds_up(url, plan.name)
    finally:
        script.close()
        cluster.stop()
