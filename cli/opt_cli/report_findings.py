"""What a run left in its store, gathered for the closing report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opt_api.documents.keys import plan_key
from opt_api.documents.logbook import LogbookEntry
from opt_api.documents.plan import Plan
from opt_api.estimate.compute import duration, work, workers_cores
from opt_api.estimate.energy import Footprint, energy
from opt_cli.run_result import result_of
from opt_runtime.records.journal import RuntimeEvent, journal_of
from opt_runtime.records.logbook import Logbook
from opt_runtime.records.replay import replay
from opt_store import Store

CORES = "1"
"""Of a CPU worker: a local run gives each one thread."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """One entry of the logbook that had to recover; `redone` in steps, `seconds` by phase."""

    cause: str
    rung: int
    step: int
    redone: int
    seconds: Mapping[str, float]
    evidence: str


@dataclass(frozen=True, slots=True)
class Findings:
    """All that the report shows.

    Attributes:
        run: Its name.
        outcome: Where it stands, in words.
        step, tokens, parameters: How far it came, and what it trains.
        wall_seconds: From its first event to its last; pauses between two starts count.
        losses: By step.
        validation: By source, of the newest checkpoint.
        recoveries: In order.
        goodput: Host seconds by class.
        ettr: Productive share of the wanted hosts' time.
        energy: From the measured hours and assumed power.
        samples: Prompts and what the model made of them.
        checkpoint, export: Where they are.
    """

    run: str
    outcome: str
    step: int
    tokens: int
    parameters: int
    wall_seconds: float
    loss: float | None
    losses: Mapping[int, float]
    validation: Mapping[str, float]
    recoveries: Sequence[Recovery]
    goodput: Mapping[str, float]
    ettr: float | None
    energy: Footprint
    samples: Sequence[tuple[str, str]]
    checkpoint: str | None
    export: str | None


def find(store: Store, run: str, samples: Sequence[tuple[str, str]]) -> Findings:
    """Read everything.

    Raises:
        opt_store.StoreError: There is no such run, or the store cannot be read.
    """
    plan = Plan.from_bytes(store.get(plan_key(run)))
    events, entries = list(journal_of(store, run).read()), Logbook(store, run).read()
    state, result = replay(events), result_of(store, run)
    goodput = next((e.seconds for e in reversed(entries) if e.cause == "Completed"), None) or state.goodput
    wanted = sum(goodput.values()) - goodput.get("idle_spare", 0.0)
    wall = events[-1].time - events[0].time if events else 0.0
    step = max(state.highest_step, result.get("step") or 0)
    return Findings(
        run=run,
        outcome=_outcome(state.phase, state.paused_for),
        step=step,
        tokens=step * plan.tokens_per_step,
        parameters=plan.architecture.parameters(),
        wall_seconds=wall,
        loss=result.get("loss"),
        losses=_losses(events),
        validation=result.get("validationLoss") or {},
        recoveries=[_recovery(entry) for entry in entries if entry.rung],
        goodput=goodput,
        ettr=goodput.get("productive", 0.0) / wanted if wanted else None,
        energy=_footprint(plan, sum(goodput.values()), wall),
        samples=samples,
        checkpoint=result.get("checkpoint"),
        export=result.get("export"),
    )


def _outcome(phase: str, paused_for: str | None) -> str:
    if phase == "paused":
        return f"paused: {paused_for}"
    return "completed" if phase == "completed" else "not finished; the same command goes on"


def _losses(events: Sequence[RuntimeEvent]) -> dict[int, float]:
    """The last loss of every step: what was done again replaces what was lost."""
    return {loss.step: loss.loss for event in events for loss in event.losses}


def _recovery(entry: LogbookEntry) -> Recovery:
    evidence = "; ".join(line.splitlines()[0] for line in entry.evidence[:2] if line)
    return Recovery(entry.cause, entry.rung, entry.from_step or 0, entry.steps_lost, entry.seconds, evidence[:400])


def _footprint(plan: Plan, host_seconds: float, wall_seconds: float) -> Footprint:
    """The restated basis of the plan's estimate, with hours as the ledger measured them."""
    per_host = plan.layout.devices_per_host
    hours = duration(plan, work(plan), CORES).model_copy(
        update={"wall_hours": wall_seconds / 3600, "device_hours": host_seconds * per_host / 3600}
    )
    return energy(plan, hours, workers_cores(plan.layout, CORES)).restated
