"""What every benchmark shares: interleaved repeats, median and spread, the machine, and the one JSON object.

A benchmark `NAME.py` gives `run` a function that returns cases. Its own programs run as subprocesses (`measured`), so
that time, processor time and memory are theirs alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]
OURS = "ours"
"""The name of our own runner among those that are interleaved."""


@dataclass(frozen=True)
class Case:
    """One row of a result: the value is the median over the repeats, the spread the interquartile range of ours."""

    case: str
    unit: str
    better: Literal["higher", "lower"]
    ours: float
    peers: dict[str, float]
    repeats: int
    spread: float
    peer_spread: dict[str, float] = field(default_factory=dict)
    notes: str = ""


@dataclass(frozen=True)
class Usage:
    """What a piece of work took: seconds of wall clock and of processor, MiB of memory at the highest."""

    seconds: float
    cpu_seconds: float
    peak_rss_mib: float


def case_of(
    case: str, unit: str, better: Literal["higher", "lower"], values: Mapping[str, Sequence[float]], notes: str = ""
) -> Case:
    """Make a case from the values of each runner, of which one is `OURS`."""
    medians = {name: round(statistics.median(found), 4) for name, found in values.items()}
    spreads = {name: round(interquartile_range(found), 4) for name, found in values.items()}
    ours, spread = medians.pop(OURS), spreads.pop(OURS)
    return Case(case, unit, better, ours, medians, len(values[OURS]), spread, spreads, notes)


def interquartile_range(values: Sequence[float]) -> float:
    """Return the distance between the quartiles; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def interleaved(runners: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, list[T]]:
    """Run every runner once a round, beginning with another one each round, so that none has the better moment."""
    names = list(runners)
    results: dict[str, list[T]] = {name: [] for name in names}
    for round_number in range(repeats):
        first = round_number % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(runners[name]())
    return results


@contextmanager
def timed() -> Iterator[Callable[[], Usage]]:
    """Time a block in this process, its threads and its ended children; call what it gives after the block."""
    started, before = time.perf_counter(), _cpu_seconds()
    took: list[float] = []

    def usage() -> Usage:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return Usage(took[0], took[1], peak)

    yield usage
    took += [time.perf_counter() - started, _cpu_seconds() - before]


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measured(script: str, job: Mapping[str, Any], *, timeout_s: float = 1800) -> dict[str, Any]:
    """Run ``script --worker JOB`` in a fresh process and return the JSON object it prints last.

    Raises:
        RuntimeError: It failed; the message ends with what it wrote to stderr.
    """
    command = [sys.executable, script, "--worker", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise RuntimeError(f"worker {job} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


_UNITS = {"amx_tile": "AMX", "avx512_vnni": "AVX-512 VNNI", "avx512f": "AVX-512", "avx2": "AVX2", "": "no wide vectors"}
"""Of processors that go by one name some have, or are let use, less than others."""


def machine() -> dict[str, Any]:
    """Describe this machine."""
    about = dict(line.partition("\t")[::2] for line in Path("/proc/cpuinfo").read_text().splitlines())
    name = about.get("model name", "").lstrip("\t: ") or platform.processor()
    flags = set(about.get("flags", "").split())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": f"{name} with {next(units for flag, units in _UNITS.items() if flag in flags | {''})}",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def commit() -> str:
    """Return the commit that is measured, with '+' when files differ from it; 'unknown' outside a repository."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


Measure = Callable[[bool], Sequence[Case]]
"""From whether to be quick to cases."""


def run(benchmark: str, measure: Measure | Mapping[str, Measure], worker: Callable[[Any], Any] | None = None) -> None:
    """Be the benchmark's program: ``--json`` prints the one object, ``--quick`` measures less, else a table.

    Args:
        benchmark: Its name.
        measure: Gets whether to be quick; returns the cases. Several, by name, can be run one at a time: ``--only``.
        worker: What ``--worker JOB`` runs in a subprocess of `measured`: gets the job, returns a JSON object.
    """
    groups = measure if isinstance(measure, Mapping) else {"all": measure}
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="fewer repeats and smaller sizes: a test of the program")
    parser.add_argument(
        "--only", action="append", choices=list(groups), help="run this group of cases; may be repeated"
    )
    parser.add_argument("--merge", type=Path, metavar="RESULT", help="an earlier result, whose other cases are kept")
    parser.add_argument("--worker", metavar="JOB", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        assert worker is not None, f"{benchmark} has no workers"
        print(json.dumps(worker(json.loads(given.worker))))
        return
    load = [round(value, 2) for value in os.getloadavg()]
    cases = [asdict(case) for name in given.only or groups for case in groups[name](given.quick)]
    result: dict[str, Any] = {
        "benchmark": benchmark,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "load": load,
        "cases": cases,
    }
    if given.merge is not None and given.merge.exists():
        result = merged(json.loads(given.merge.read_text()), result)
    print(json.dumps(result, indent=1) if given.json else table(result["cases"]))


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The new result with the old one's other cases; each says when and where it was measured, under what load."""
    names = {case["case"] for case in new["cases"]}
    about = f"measured {old['date']} on {old['machine']['cpu']} at {old['commit']}, load {old['load']}"
    kept = [dict(case) for case in old["cases"] if case["case"] not in names]
    for case in kept:
        if "measured 20" not in case["notes"]:
            case["notes"] = f"{case['notes']}; {about}".removeprefix("; ")
    return {**new, "cases": [*kept, *new["cases"]]}


def table(cases: Sequence[Mapping[str, Any]]) -> str:
    """Write cases for a person to read."""
    lines = []
    for case in cases:
        peers = ", ".join(f"{name} {value:g}" for name, value in case["peers"].items())
        lines.append(f"{case['case']:<34} {case['unit']:<10} ours {case['ours']:g} (± {case['spread']:g})  {peers}")
    return "\n".join(lines)
