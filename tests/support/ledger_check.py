"""The goodput ledger against the wall time of every host, which the journal tells independently."""

from __future__ import annotations

from pathlib import Path

import pytest

from opt_runtime.records.journal import RuntimeEvent, journal_of
from opt_store import open_store

STOPS, STARTS = frozenset({"Lost"}), frozenset({"Returned"})


def assert_ledger_adds_up(store: str, run: str) -> dict[str, float]:
    """Classes of the newest record against the seconds that each host was there until then, within 1 %."""
    events = list(journal_of(open_store(store), run).read())
    kept = [event for event in events if event.what == "Progress" and event.goodput]
    assert kept, "no goodput was ever recorded"
    newest = kept[-1]
    wall = wall_seconds([event for event in events if event.sequence <= newest.sequence], newest.time)
    assert sum(newest.goodput.values()) == pytest.approx(wall, rel=0.01, abs=0.3), newest.goodput
    return dict(newest.goodput)


def wall_seconds(events: list[RuntimeEvent], end: float) -> float:
    """Seconds for which each machine was there, all together: from its first report on, without those it was lost."""
    since: dict[str, float | None] = {}
    wall = 0.0
    for event in events:
        known = since.get(event.hardware)
        if event.what == "HostSeen" and event.hardware not in since:
            since[event.hardware] = event.time
        elif event.what == "HostMarked" and event.host_event in STOPS and known is not None:
            wall += event.time - known
            since[event.hardware] = None
        elif event.what == "HostMarked" and event.host_event in STARTS and known is None:
            since[event.hardware] = event.time
    return wall + sum(end - began for began in since.values() if began is not None)


def recorded(folder: Path) -> list[Path]:
    """Metric files of all hosts of a run's scratch folder."""
    return sorted(folder.rglob("metrics-000000.jsonl"))
