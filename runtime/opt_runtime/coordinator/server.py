"""The coordinator's HTTP endpoint: reports and orders for agents; status, metrics and changes for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from opt_api.documents.live_change import LiveChange
from opt_api.documents.logbook import FieldChange
from opt_runtime.coordinator.coordinator import Coordinator
from opt_runtime.coordinator.status import metrics_of, status_of
from opt_runtime.messages import AgentReport
from opt_runtime.wire import JSON, Answer, Request, Routes

LEAD_STEPS = 5
"""In a gang that runs, a change takes effect so many steps after the highest one: every rank hears of it in time."""
LIVE_FIELDS = {
    "optimisation.learningRate": "learningRate",
    "optimisation.clip": "clip",
    "precision.lossScale.floor": "lossScaleFloor",
    "data.skipBatches": "skipBatches",
}
"""Fields of the spec that change while running, and what they are called in a `LiveChange`."""


def routes_of(c: Coordinator) -> Routes:
    """All paths of the endpoint."""
    return {
        ("POST", "/report"): lambda request: _report(c, request),
        ("GET", "/orders"): lambda request: _orders(c, request),
        ("GET", "/status"): lambda _: _json(status_of(c)),
        ("GET", "/metrics"): lambda _: (200, "text/plain; version=0.0.4", metrics_of(c).encode()),
        ("GET", "/live-change"): lambda _: _json([change.wire() for change in c.state.changes]),
        ("POST", "/live-change"): lambda request: _checked(_change, c, request),
        ("POST", "/suspend"): lambda request: _checked(_suspend, c, request),
        ("POST", "/gone"): lambda request: _checked(_gone, c, request),
        ("POST", "/dismiss"): lambda request: _checked(_dismiss, c, request),
        ("POST", "/resume"): lambda request: _checked(_resume, c, request),
        ("POST", "/pardon"): lambda request: _checked(_pardon, c, request),
    }


def _report(c: Coordinator, request: Request) -> Answer:
    return 200, JSON, c.take(AgentReport.from_bytes(request.body)).to_bytes()


def _orders(c: Coordinator, request: Request) -> Answer:
    query = request.query
    orders = c.wait_for_orders(query["host"], int(query["after"]), float(query["wait"]))
    return 200, JSON, orders.to_bytes()


def _change(c: Coordinator, wish: dict[str, Any]) -> dict[str, Any]:
    """Number a change, choose its step, hand it to the gang, write it down."""
    unknown = set(wish["fields"]) - set(LIVE_FIELDS)
    if unknown or not wish["fields"]:
        raise ValueError(f"fields {sorted(unknown)}: running fields are {', '.join(LIVE_FIELDS)}")
    values = {LIVE_FIELDS[name]: value for name, value in wish["fields"].items()}
    with c.changed:
        number = len(c.state.changes) + 1
        change = LiveChange.model_validate(
            {
                **values,
                "sequence": number,
                "atStep": _first_step_of_change(c),
                "reason": wish["reason"],
                "who": wish.get("who", "unknown"),
                "time": datetime.now(UTC).isoformat(),
            }
        )
        before = (c.state.values or c.settings.first_values).wire()
        c.hand_out(change)
        c.note(cause="LiveChange", by="human", who=change.who, reason=change.reason, to_step=change.at_step,
               summary=f"live change {number} at step {change.at_step}",
               changes=_fields(wish["fields"], before))  # fmt: skip
        return change.wire()


def _first_step_of_change(c: Coordinator) -> int:
    """Ahead of a gang that runs; the first step after a pause for one that does not, from wherever it goes on."""
    if c.state.phase == "running":
        return c.observed.highest_step + LEAD_STEPS
    newest = c.checkpoints.newest_verified()
    return 1 + (newest["step"] if newest else 0)


def _fields(wished: dict[str, Any], before: dict[str, Any]) -> tuple[FieldChange, ...]:
    return tuple(
        FieldChange(field=name, before=str(before.get(LIVE_FIELDS[name], "none"))[:256], after=str(value)[:256])
        for name, value in wished.items()
    )


def _suspend(c: Coordinator, wish: dict[str, Any]) -> dict[str, Any]:
    with c.changed:
        c.record("Suspend", reason=str(wish.get("reason", ""))[:1000])
        c.wake()
    return {"suspend": True}


def _gone(c: Coordinator, wish: dict[str, Any]) -> dict[str, Any]:
    """A second source's word about a host, such as its node being lost; it counts only while the host is silent."""
    with c.changed:
        name, word = str(wish["host"]), str(wish["word"])[:1000]
        host = c.observed.hosts.get(name) or (c.unheard(name) if name in c.state.gang else None)
        if host is not None:
            c.observed.hosts[name] = replace(host, gone=word)
            c.wake()
    return {"known": host is not None}


def _dismiss(c: Coordinator, wish: dict[str, Any]) -> dict[str, Any]:
    """Somebody takes a host away: it answers still, and will not for long."""
    return {"dismissed": c.dismiss(str(wish["host"]), str(wish["word"])[:1000])}


def _resume(c: Coordinator, wish: dict[str, Any]) -> dict[str, Any]:
    with c.changed:
        c.record("Resume", reason=str(wish.get("reason", ""))[:1000])
        c.wake()
    return {"suspend": False}


def _pardon(c: Coordinator, wish: dict[str, Any]) -> dict[str, Any]:
    """A quarantined machine proved itself, or a person trusts it again: it may come back, checked like any other."""
    with c.changed:
        hardware, reason = str(wish["hardware"]), str(wish.get("reason", ""))[:1000]
        quarantined = c.state.ledger.allows(hardware, "Pardoned")
        if quarantined:
            c.record("HostMarked", hardware=hardware, host_event="Pardoned", reason=reason, fault=False)
            c.wake()
    return {"pardoned": quarantined}


def _checked(act: Callable[[Coordinator, dict[str, Any]], dict[str, Any]], c: Coordinator, request: Request) -> Answer:
    try:
        return _json(act(c, json.loads(request.body or b"{}")))
    except (ValidationError, ValueError, KeyError) as fault:
        return 400, "text/plain", f"{type(fault).__name__}: {fault}\n".encode()


def _json(value: Any) -> Answer:
    return 200, JSON, json.dumps(value).encode()
