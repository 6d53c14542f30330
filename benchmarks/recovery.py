"""How long a training stands still after a fault, and what it has to do again: ours, torchrun, HF Trainer, torchft.

    python benchmarks/recovery.py --json                   # all cases, about 40 minutes
    python benchmarks/recovery.py --json --case kill-rank  # one of them, merged into the committed results

All train the same model of 8 million parameters on two ranks of one thread; see `recovery_job.py`. A recovery is the
time from the fault to the end of the next optimiser step of the gang, taken from the ranks' own records of their steps
and not from our logbook. Redone steps are those that were done before the fault and are done again after it. torchft is
compared where it can be imported (`pip install --target DIR torchft` and `PYTHONPATH=DIR`).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import common
from common import OURS, Case
from recovery_ours import Ours, Step, plan_of, series_of
from recovery_peers import PROGRAMS, Peer, await_steps, installed

RESULTS = common.ROOT / "benchmarks" / "results" / "recovery.json"
SETTLED = 8
"""Steps between two faults."""
FAULTS_A_CLUSTER = 4
"""Lost hosts of one cluster of three machines: a machine with three faults in a day is not taken again."""
PHASES = ("detect", "reschedule", "init_and_load", "first_step")


@dataclass
class Found:
    """Of one runner: seconds to the next step and steps redone, one of each a fault; seconds by phase, ours only."""

    seconds: list[float] = field(default_factory=list)
    redone: list[float] = field(default_factory=list)
    phases: dict[str, list[float]] = field(default_factory=dict)
    step_seconds: float = 0.0
    equal: bool = True

    def add(self, other: Found) -> None:
        """Take another round's faults in."""
        self.seconds += other.seconds
        self.redone += other.redone
        for name, values in other.phases.items():
            self.phases.setdefault(name, []).extend(values)
        self.step_seconds = other.step_seconds or self.step_seconds
        self.equal &= other.equal


@dataclass(frozen=True)
class Wish:
    """How often: faults of ours, faults of each peer, and rounds that both are divided into."""

    ours: int
    peers: int
    rounds: int
    folder: Path
    seconds: float


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def ours(wish: Wish, faults: int, give: Callable[[Ours], float], spares: int = 0) -> Found:
    """Faults in one cluster, one after another."""
    found = Found()
    with Ours(wish.folder / "ours", plan_of(), spares) as run:
        for number in range(1, faults + 1):
            run.await_steps(SETTLED, number)
            if spares:
                run.wait(lambda: any(agent["state"] == "Spare" for agent in run.status()["agents"]))
            at = give(run)
            run.await_steps(2, number + 1)
            steps = run.steps()
            first = next(step for step in steps if step.attempt == number + 1)
            done = max(step.step for step in steps if step.attempt == number)
            found.seconds.append(first.at - at)
            found.redone.append(max(0, done - first.step + 1))
        time.sleep(0.5)
        for entry in run.recoveries():
            for name in PHASES:
                found.phases.setdefault(name, []).append(entry.seconds.get(name, 0.0))
        found.step_seconds = statistics.median(step.seconds for step in run.steps()[SETTLED:])
        found.equal = all(len(losses) == 1 for losses in series_of(run.steps()).values())
    return found


def peer(wish: Wish, kind: str, faults: int) -> Found:
    """SIGKILLs of rank 1, one after another."""
    found = Found()
    with tempfile.TemporaryDirectory(dir=wish.folder) as folder, Peer(kind, Path(folder) / "run") as run:
        since = 0.0
        for _ in range(faults):
            if not await_steps(run, SETTLED, since):
                raise RuntimeError(f"{kind} makes no steps:\n{run.log()}")
            at = time.time()
            run.kill_rank(1)
            if not await_steps(run, 2, at):
                raise RuntimeError(f"{kind} does not recover:\n{run.log()}")
            before = [line for line in run.lines() if line.at <= at]
            after = [line for line in run.lines() if line.at > at and restarted(kind, line.who, before[-1].who)]
            found.seconds.append(after[0].at - at)
            found.redone.append(max(0, max(line.step for line in before) - after[0].step + 1))
            since = time.time()
    return found


def restarted(kind: str, who: str, before: str) -> bool:
    """Whether a step is of the gang after the fault: under torchrun that is another process, torchft's goes on."""
    return kind == "torchft" or who != before


def kill_rank(wish: Wish) -> list[Case]:
    """SIGKILL of rank 1, everybody in turn."""
    found = {OURS: Found(), **{kind: Found() for kind in PROGRAMS}}
    problems: dict[str, str] = {kind: "is not installed" for kind in PROGRAMS if not installed(kind)}
    for _ in range(wish.rounds):
        found[OURS].add(ours(wish, wish.ours // wish.rounds, lambda run: run.kill_rank(1)))
        for kind in PROGRAMS.keys() - problems.keys():
            try:
                found[kind].add(peer(wish, kind, wish.peers // wish.rounds))
            except RuntimeError as problem:
                problems[kind] = str(problem).partition(":")[0].removeprefix(f"{kind} ")
    measured = {kind: f for kind, f in found.items() if f.seconds}
    counts = ", ".join(f"{kind} {len(f.seconds)}" for kind, f in measured.items() if kind != OURS)
    note = "; ".join([f"faults of peers: {counts}", *(f"{kind} {words}" for kind, words in problems.items())])
    return cases_of("kill-rank", measured, note)


def lose_host(wish: Wish) -> list[Case]:
    """SIGKILL of all of a host; a spare takes its place, and the machine comes back as the next spare."""

    def give(run: Ours) -> float:
        at, host = run.kill_host()
        run.wait(lambda: run.status()["attempt"] > 0 and host not in {w["host"] for w in run.status()["workers"]})
        run.cluster.host_returns(host)
        return at

    found = Found()
    for left in range(wish.ours, 0, -FAULTS_A_CLUSTER):
        found.add(ours(wish, min(left, FAULTS_A_CLUSTER), give, spares=1))
    return cases_of("lose-host", {OURS: found}, "one spare; no peer holds any")


def stop_rank(wish: Wish) -> list[Case]:
    """SIGSTOP of rank 1."""
    found = ours(wish, wish.ours, lambda run: run.kill_rank(1, signal.SIGSTOP))
    limit = 3 * found.step_seconds + 5
    note = f"3 step times + 5 s are {limit:.1f} s; torchrun waits for the collective's time-out of 30 minutes"
    return cases_of("stop-rank", {OURS: found}, note)


def cases_of(name: str, found: dict[str, Found], note: str) -> list[Case]:
    """p50, p95 and steps redone, as rows."""
    mine = found[OURS]
    phases = ", ".join(f"{name} {statistics.median(values):.3f}" for name, values in mine.phases.items())
    equal = "every redone step bit-equal" if mine.equal else "REDONE STEPS DIFFER"
    words = f"{note}; our median seconds by phase: {phases}; our step {mine.step_seconds:.3f} s; {equal}"
    rows: tuple[tuple[str, str, Callable[[Found], float]], ...] = (
        (f"{name} p50", "s", lambda f: quantile(f.seconds, 0.5)),
        (f"{name} p95", "s", lambda f: quantile(f.seconds, 0.95)),
        (f"{name} steps redone, most", "steps", lambda f: max(f.redone)),
    )
    return [
        Case(
            row, unit, "lower", round(value(mine), 4),
            {kind: round(value(f), 4) for kind, f in found.items() if kind != OURS}, len(mine.seconds),
            round(common.interquartile_range(mine.seconds if unit == "s" else mine.redone), 4),
            {k: round(common.interquartile_range(f.seconds if unit == "s" else f.redone), 4)
             for k, f in found.items() if k != OURS}, words,
        )
        for row, unit, value in rows
    ]  # fmt: skip


def every(interval_s: float) -> Callable[[Wish], list[Case]]:
    """SIGKILLs of the ranks in turn, at a fixed interval, against the same gang left alone before and after."""

    def measure(wish: Wish) -> list[Case]:
        with Ours(wish.folder / "ours", plan_of()) as run:
            run.await_steps(SETTLED, 1)
            calm = max(20.0, wish.seconds / 15)
            time.sleep(calm)
            began, faults = time.time(), 0
            while (faults + 1) * interval_s <= wish.seconds:
                time.sleep(max(0.0, began + (faults + 0.5) * interval_s - time.time()))
                run.kill_rank(faults % 2)
                faults += 1
            time.sleep(max(0.0, began + wish.seconds - time.time()))
            ended = time.time()
            time.sleep(calm)
            steps = run.steps()
        made = len({s.step for s in steps if began < s.at <= ended})
        quiet = [s for s in steps if s.at <= began and s.at > began - calm] + [s for s in steps if s.at > ended]
        rate = len(quiet) / (2 * calm)
        equal = all(len(losses) == 1 for losses in series_of(steps).values())
        share = made / (rate * wish.seconds)
        words = (
            f"{faults} SIGKILLs in {wish.seconds:.0f} s; {made} different steps against {rate:.2f} a second without "
            f"faults, measured for {calm:.0f} s before and after; median step {_median_ms(quiet):.0f} ms there, "
            f"{_median_ms(s for s in steps if began < s.at <= ended):.0f} ms meanwhile; bit-equal where redone: "
            f"{equal}; torchft publishes 30.2 % at 15 s and 82.3 % at 60 s on 300 GPUs, of another model"
        )
        return [
            Case(
                f"fault every {interval_s:.0f} s: steps made",
                "share",
                "higher",
                round(share, 4),
                {},
                1,
                0.0,
                notes=words,
            )
        ]

    return measure


def _median_ms(steps: Iterable[Step]) -> float:
    """What tells a machine that became slower from steps that were lost."""
    return 1000 * statistics.median(step.seconds for step in steps)


def overhead(wish: Wish) -> list[Case]:
    """Step time with the memory tier and without, in turn."""
    big = {"preset": "opt-125m", "dropout": 0.0, "attentionDropout": 0.0}
    models: dict[str, tuple[dict[str, Any] | None, int, int]] = {"8M": (None, 60, 2), "125M": (big, 8, 1)}
    rows = []
    for name, (model, count, hosts) in models.items():
        found: dict[bool, list[float]] = {True: [], False: []}
        for number in range(2 * wish.rounds):
            memory = number % 2 == 0
            with Ours(wish.folder / "ours", plan_of(memory=memory, model=model, hosts=hosts)) as run:
                run.await_steps(count, 1, 300)
                found[memory] += [step.seconds for step in run.steps()[3:]]
        on, off = (1000 * statistics.median(found[memory]) for memory in (True, False))
        words = f"{hosts} hosts of one rank and one thread, each keeps the whole state; {off:.0f} ms a step without"
        peers = {"ours without the memory tier": round(off, 2)}
        rows.append(Case(f"step of {name} with the memory tier", "ms", "lower", round(on, 2), peers, len(found[True]),
                         round(1000 * common.interquartile_range(found[True]), 2), notes=words))  # fmt: skip
    return rows


CASES: dict[str, Callable[[Wish], list[Case]]] = {
    "kill-rank": kill_rank,
    "lose-host": lose_host,
    "stop-rank": stop_rank,
    "every-15": every(15),
    "every-60": every(60),
    "overhead": overhead,
}


def merged(fresh: Sequence[Case], load: list[float]) -> dict[str, Any]:
    """The committed results with these rows in place of those of the same names; each row says when it was measured."""
    when = datetime.now(UTC).isoformat(timespec="minutes")
    stamp = f"measured {when} on {common.machine()['cpu']} at {common.commit()}, load {load[0]} before"
    rows = [{**asdict(case), "notes": f"{case.notes}; {stamp}"} for case in fresh]
    before = json.loads(RESULTS.read_text())["cases"] if RESULTS.exists() else []
    names = {row["case"] for row in rows}
    return {
        "benchmark": "recovery",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": common.commit(),
        "machine": common.machine(),
        "load": load,
        "cases": [row for row in before if row["case"] not in names] + rows,
    }


def main() -> None:
    """Measure what is asked for; whole runs are merged into the committed results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="few faults, nothing is merged: a test of the program")
    parser.add_argument("--case", choices=CASES, action="append", help="only this case; may be given again")
    parser.add_argument("--ours", type=int, default=20, help="faults of ours")
    parser.add_argument("--peers", type=int, default=4, help="faults of each peer")
    parser.add_argument("--rounds", type=int, default=2, help="rounds that the faults are divided into")
    parser.add_argument("--seconds", type=float, default=600, help="length of the cases with a fault every so often")
    given = parser.parse_args()
    load = [round(value, 2) for value in os.getloadavg()]
    few = given.quick
    with tempfile.TemporaryDirectory() as folder:
        wish = Wish(2 if few else given.ours, 1 if few else given.peers, 1 if few else given.rounds, Path(folder),
                    30 if few else given.seconds)  # fmt: skip
        fresh = [case for name in given.case or CASES for case in CASES[name](wish)]
    result = merged(fresh, load)
    if not few:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1) if given.json else common.table([asdict(case) for case in fresh]))


if __name__ == "__main__":
    main()
