"""Snapshots of a gang, built in a line: two hosts with one rank each and a spare, all well, unless told otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from opt_api.documents.exit_report import ExitCause, ExitReport
from opt_api.documents.heartbeat import Heartbeat
from opt_api.training.resilience import ResilienceSpec, SectionDeadlines
from opt_runtime.core.deadlines import DeadlineBook
from opt_runtime.core.hosts import HostEvent, HostLedger
from opt_runtime.core.snapshot import GangSnapshot, HostView, WorkerExit, WorkerView

NOW = 1000.0
JOIN: tuple[HostEvent, ...] = ("CheckStarted", "CheckPassed")


def beat(rank: int, step: int = 10, **more: Any) -> Heartbeat:
    usual = {"attempt": 1, "sequence": step, "section": "step", "section_seconds": 0.1, "time": NOW, "loss": 2.0}
    who = {"run": "r", "rank": rank, "world_size": 2, "host": f"h{rank}", "pid": 100 + rank}
    return Heartbeat.model_validate({**who, **usual, "step": step, **more})


def report(cause: ExitCause, rank: int = 0, step: int = 10) -> ExitReport:
    return ExitReport(cause=cause, message="said so", attempt=1, rank=rank, step=step)


def ended(cause: ExitCause | None = None, signal: int | None = None, at: float = NOW, rank: int = 0) -> WorkerExit:
    return WorkerExit(at=at, signal=signal, code=None if signal else 1, report=report(cause, rank) if cause else None)


def ledger_of(hosts: int, gang: int) -> HostLedger:
    ledger = HostLedger()
    for index in range(hosts):
        ledger, _ = ledger.admit(f"m{index}", f"h{index}")
        for event in (*JOIN, *(("Assigned",) if index < gang else ())):
            ledger = ledger.apply(f"m{index}", event)
    return ledger


def gang(hosts: int = 2, spares: int = 1, holds: bool = True, **more: Any) -> GangSnapshot:
    """Ranks 0..hosts-1, one a host, at step 10; each host holds its rank's steps 9 and 10 and its left neighbour's."""
    names = range(hosts + spares)
    views = tuple(
        HostView(
            f"h{i}",
            f"m{i}",
            heard=NOW - 0.1,
            holds={i: (9, 10), (i - 1) % hosts: (9, 10)} if holds and i < hosts else {},
        )
        for i in names
    )
    workers = tuple(WorkerView(i, f"h{i}", NOW - 100, beat(i), NOW - 0.1) for i in range(hosts))
    snapshot = GangSnapshot(
        now=NOW, run="r", attempt=1, phase="running", wanted_hosts=hosts, workers_per_host=1,
        units=hosts, allowed_sizes=tuple(range(1, hosts + 1)), policy=ResilienceSpec(),
        deadlines=DeadlineBook().deadlines(SectionDeadlines()), silence=1.5, hosts=views, workers=workers,
        ledger=ledger_of(hosts + spares, hosts),
    )  # fmt: skip
    return replace(snapshot, **more)


def with_worker(snapshot: GangSnapshot, rank: int, **more: Any) -> GangSnapshot:
    workers = tuple(replace(w, **more) if w.rank == rank else w for w in snapshot.workers)
    return replace(snapshot, workers=workers)


def with_host(snapshot: GangSnapshot, name: str, **more: Any) -> GangSnapshot:
    return replace(snapshot, hosts=tuple(replace(h, **more) if h.name == name else h for h in snapshot.hosts))


def without_host(snapshot: GangSnapshot, name: str) -> GangSnapshot:
    """The host silent, and its agent's port refusing connections."""
    return with_host(snapshot, name, heard=NOW - 10, gone="connection refused")
