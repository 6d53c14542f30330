"""The real trainer on a local cluster, with text made up on the spot: the tests of recovery from memory.

No host is ever slow by itself here: all of them share one machine, which may be busy with other things.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opt_api.documents.plan import Plan
from opt_cli.worker_entry_names import DATASET, FAULTS, PLAN, STORE
from opt_runtime.local.cluster import LocalCluster
from opt_runtime.local.faults import FOLDER
from support.ledger_check import assert_ledger_adds_up
from support.local_run import TESTS, Run
from support.paced_worker import PACE
from support.plans import BATCH, SEQUENCE, tiny_plan
from support.runs import WITH_DROPOUT, RunFolder

NUMBERS = ("loss", "gradient_norm", "parameter_norm", "learning_rate", "tokens")
PACED = "support.paced_worker:run"
Series = dict[int, set[tuple[float, ...]]]


def memory_plan(steps: int, save_every: int = 1000, **changed: Any) -> Plan:
    """A tiny plan over two hosts, with dropout, that hardly ever saves."""
    sections: dict[str, dict[str, Any]] = {
        "model": WITH_DROPOUT,
        "optimisation": {"totalTokens": steps * BATCH * SEQUENCE, "warmupTokens": 2 * BATCH * SEQUENCE},
        "parallelism": {"hosts": 2},
        "checkpointing": {"interval": {"steps": save_every}, "export": False},
        "evaluation": {"intervalSteps": 10_000},
        "resilience": {"divergence": {"lossSpikeRatio": 1000}, "hostChecks": {"stragglerRatio": 100}},
    }
    for section, fields in changed.items():
        sections[section] = {**sections.get(section, {}), **fields}
    return tiny_plan(**sections)


class MemoryRun(Run):
    """A `Run` whose worker is the trainer."""

    def series(self) -> Series:
        """Everything that was ever recorded of each step: one tuple of numbers, if redone steps are bit-equal."""
        found: Series = {}
        for path in self.directory.glob("host-*/telemetry/metrics-000000.jsonl"):
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                if entry["kind"] == "step":
                    found.setdefault(entry["step"], set()).add(tuple(entry[name] for name in NUMBERS))
        return found


@contextmanager
def memory_run(
    tmp_path: Path, plan: Plan, spares: int = 0, entry: str = PACED, pace: float = 0.0
) -> Iterator[MemoryRun]:
    """A cluster at work, every step taking at least `pace` seconds; its ledger must add up in the end."""
    folder, directory = RunFolder(tmp_path), tmp_path / "run"
    directory.mkdir()
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    told = {
        PLAN: str(directory / "plan.json"),
        STORE: folder.url,
        DATASET: f"{folder.url}/data/manifest.json",
        FAULTS: str(directory / FOLDER),
        PACE: str(pace),
        "PYTHONPATH": path,
    }
    names = [f"host-{n}" for n in range(plan.layout.hosts + spares)]
    cluster = LocalCluster(plan, folder.url, directory, entry, names, told)
    cluster.start()
    try:
        yield MemoryRun(cluster, directory)
        assert_ledger_adds_up(folder.url, plan.name)
    finally:
        cluster.stop()
