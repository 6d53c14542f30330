"""An hour under random faults, one every half minute, beside a twin that nothing happens to: the same losses.

`pytest tests/faults/test_long_run.py -m long --fault-seconds 3600 --fault-seed 1`
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from opt_runtime.local.acts import find_store
from opt_runtime.local.faults import parse_fault
from support.real_run import RealRun, real_run, small_spec

pytestmark = pytest.mark.long
EVERY_S = 30.0
STEP_S = 0.2


class Hurt:
    """Does one random thing to a run, and puts right what a cluster's owner would."""

    def __init__(self, run: RealRun, seed: int) -> None:
        self.run, self.rng = run, random.Random(seed)
        self.done: Counter[str] = Counter()
        self.machines = 0
        self.acts: tuple[Callable[[], None], ...] = (
            self.kill_rank, self.stop_rank, self.kill_host, self.kill_coordinator, self.stop_coordinator,
            self.kill_rendezvous, self.lose_store,
        )  # fmt: skip

    def once(self) -> None:
        act = self.rng.choice(self.acts)
        self.done[act.__name__] += 1
        act()

    def order(self, sentence: str) -> None:
        fault = parse_fault(sentence)
        self.run.script._waiting.append(fault)
        self.run.happened += self.run.script.look(self.run.cluster, self.run.status())

    def kill_rank(self) -> None:
        self.order(f"kill rank {self.rng.randrange(2)} at step 0")

    def stop_rank(self) -> None:
        self.order(f"stop rank {self.rng.randrange(2)} at step 0")

    def kill_host(self) -> None:
        """Its place is taken by another machine, as a cloud would do it."""
        host = self.rng.choice([w["host"] for w in self.run.status()["workers"]] or ["host-0"])
        self.run.signal_program(host, signal.SIGKILL)
        self.run.until(lambda s: any(a["host"] == host and a["state"] == "Suspect" for a in s["agents"]), 120)
        self.machines += 1
        self.run.cluster.machines[host] = f"machine-{host}-{self.machines}"
        self.run.cluster.host_returns(host)

    def kill_coordinator(self) -> None:
        self.run.signal_program("coordinator")

    def stop_coordinator(self) -> None:
        self.order("stop coordinator at step 0 for 5 s")

    def kill_rendezvous(self) -> None:
        self.run.signal_program("rendezvous")

    def lose_store(self) -> None:
        self.order("lose store at step 0 for 5 s")


@pytest.mark.timeout(3 * 3600)
def test_a_run_under_random_faults_has_its_twins_losses(
    tmp_path: Path, text: str, request: pytest.FixtureRequest
) -> None:
    seconds, seed = request.config.getoption("--fault-seconds"), request.config.getoption("--fault-seed")
    print(f"seed {seed}, {seconds} s")
    spec = small_spec(
        steps=1_000_000,
        checkpointing={"interval": {"steps": 50}},
        evaluation={"intervalSteps": 500},
        resilience={"hostChecks": {"stragglerRatio": 100}},  # hosts of one busy machine: no host is slow by itself
    )
    with (
        real_run(tmp_path / "hurt", text, training=spec, spares=2, pace=STEP_S) as run,
        real_run(tmp_path / "twin", text, training=spec, pace=STEP_S) as twin,
    ):
        run.until(lambda s: s["step"] >= 10 and len(s["agents"]) == 4)
        hurt, end = Hurt(run, seed), time.monotonic() + seconds
        while time.monotonic() < end:
            due = time.monotonic() + EVERY_S
            hurt.once()
            run.until(lambda _, due=due: time.monotonic() >= due, EVERY_S * 10)
        find_store(run.cluster)
        step = run.until(lambda s: s["phase"] == "running" and s["workers"])["step"]
        run.until(lambda s: s["step"] >= step + 20)
        status = run.status()
        twin.until(lambda s: s["step"] >= status["step"], 3 * 3600)
        theirs, ours = twin.losses(), run.losses()
        last = min(max(theirs), max(ours))
        entries = run.logbook()
        found = {
            "seed": seed,
            "seconds": seconds,
            "faults": dict(hurt.done),
            "steps": last,
            "causes": dict(Counter(entry.cause for entry in entries)),
            "rungs": dict(Counter(str(entry.rung) for entry in entries if entry.rung)),
            "steps_redone": sum(entry.steps_lost for entry in entries),
            "ettr": status["ettr"],
            "twin_step": twin.status()["step"],
        }
        print(json.dumps(found))
        Path("long-run.json").write_text(json.dumps(found))
        assert {s: ours.get(s) for s in range(1, last + 1)} == {s: theirs.get(s) for s in range(1, last + 1)}
