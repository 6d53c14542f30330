"""What people and programs are told of a run: one JSON document, and Prometheus' text format."""

from __future__ import annotations

import math
from typing import Any

from opt_runtime.coordinator.coordinator import Coordinator
from opt_runtime.coordinator.observed import NEVER
from opt_runtime.core.hosts import REFUSED


def status_of(c: Coordinator) -> dict[str, Any]:
    """The run now; numbers that are not known yet are null."""
    with c.changed:
        now, beat = c.now(), c.observed.newest
        return {
            "run": c.settings.run,
            "phase": c.state.phase,
            "pausedFor": c.state.paused_for,
            "pausedWords": c.state.paused_words,
            "attempt": c.state.attempt,
            "restarts": max(c.state.attempt - 1, 0),
            "stepsLost": c.observed.steps_lost,
            "step": c.observed.highest_step,
            "totalSteps": c.settings.plan.recipe.total_steps,
            "loss": beat.loss if beat else None,
            "tokensPerSecond": beat.tokens_per_second if beat else None,
            "learningRate": beat.learning_rate if beat else None,
            "stepSeconds": beat.step_seconds if beat else None,
            "section": beat.section if beat else None,
            "sectionBytes": {"done": beat.done_bytes, "total": beat.total_bytes} if beat and beat.total_bytes else None,
            "workers": _workers(c),
            "agents": _agents(c),
            "refused": _refused(c),
            "checkpoints": [view.step for view in c.checkpoints.views],
            "verified": sorted(c.checkpoints.verified),
            "newestVerified": c.checkpoints.newest_verified(),
            "suspend": c.state.suspend,
            "values": (c.state.values or c.settings.first_values).wire(),
            "goodput": c.observed.goodput.totals(now),
            "wallSeconds": c.observed.goodput.wall(now),
            "ettr": c.observed.goodput.ettr(now),
        }


def metrics_of(c: Coordinator) -> str:
    """The same as metrics (Prometheus text exposition format 0.0.4)."""
    status = status_of(c)
    label = f'run="{c.settings.run}"'
    lines = [f"opt_runtime_{name}{{{label}}} {_number(status[key])}" for name, key in METRICS.items()]
    lines += [
        f'opt_runtime_host_seconds_total{{{label},class="{name}"}} {seconds:.3f}'
        for name, seconds in status["goodput"].items()
    ]
    return "\n".join(lines) + "\n"


METRICS = {
    "attempt": "attempt",
    "restarts_total": "restarts",
    "steps_lost_total": "stepsLost",
    "step": "step",
    "loss": "loss",
    "tokens_per_second": "tokensPerSecond",
    "ettr": "ettr",
}


def _workers(c: Coordinator) -> list[dict[str, Any]]:
    return [
        {
            "rank": rank,
            "host": worker.host,
            "pid": c.observed.pids.get(rank, 0),
            "section": worker.section,
            "step": worker.step,
            "ended": worker.exit is not None,
        }
        for rank, worker in sorted(c.observed.workers.items())
    ]


def _agents(c: Coordinator) -> list[dict[str, Any]]:
    """All that reported, and of those that never did the ones that are given up: their pods have to be replaced."""
    return [
        {
            "host": name,
            "pid": host.report.pid,
            "hardware": host.report.hardware,
            "address": host.report.address,
            "state": c.state.ledger.state(host.report.hardware),
            "silentSeconds": round(c.now() - max(host.heard, host.awaited), 3),
            "gone": host.gone,
            "copies": [f"{copy.unit}@{copy.step}" for copy in host.report.copies],
        }
        for name, host in sorted(c.observed.hosts.items())
        if host.heard != NEVER or host.gone or name not in c.state.gang
    ]


def _refused(c: Coordinator) -> list[dict[str, Any]]:
    """Machines that may not join, with every name they came with: the ledger's word, whether they report or not."""
    return [
        {"hardware": entry.hardware, "names": list(entry.names), "state": entry.state, "reason": entry.reason}
        for entry in c.state.ledger.in_state(*sorted(REFUSED))
    ]


def _number(value: float | None) -> str:
    return "NaN" if value is None or math.isnan(value) else repr(float(value))
