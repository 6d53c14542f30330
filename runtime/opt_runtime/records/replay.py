"""From the journal to the state it tells of: a pure fold, one function for each kind of event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce

from opt_api.documents.live_change import LiveChange
from opt_api.documents.logbook import Cause
from opt_api.documents.manifests import RunningValues
from opt_api.training.resilience import Section
from opt_runtime.core.budget import Failure
from opt_runtime.core.hosts import REPEAT_FAULTS, HostLedger
from opt_runtime.core.snapshot import AttemptPhase
from opt_runtime.records.journal import RuntimeEvent, What

FAILURES_KEPT = 1000


@dataclass(frozen=True, slots=True)
class RunState:
    """All that is remembered of a run between two coordinators; times in seconds since the epoch."""

    attempt: int = 0
    phase: AttemptPhase = "none"
    paused_for: Cause | None = None
    paused_words: str = ""
    suspend: bool = False
    gang: tuple[str, ...] = ()
    trajectory: int = 0
    started: float = 0.0
    ledger: HostLedger = field(default_factory=HostLedger)
    failures: tuple[Failure, ...] = ()
    interventions: tuple[int, ...] = ()
    values: RunningValues | None = None
    changes: tuple[LiveChange, ...] = ()
    highest_step: int = 0
    steps_lost: int = 0
    loss: float | None = None
    goodput: Mapping[str, float] = field(default_factory=dict)
    goodput_at: float = 0.0
    section_seconds: Mapping[Section, float] = field(default_factory=dict)
    verified: frozenset[int] = frozenset()
    verified_at: float | None = None
    coordinators: int = 0
    began: float | None = None


def replay(events: Iterable[RuntimeEvent]) -> RunState:
    """The state after all events.

    Raises:
        opt_runtime.core.hosts.LedgerError: A journal that no coordinator wrote.
    """
    return reduce(fold, events, RunState())


def fold(state: RunState, event: RuntimeEvent) -> RunState:
    """The state after one more event."""
    return FOLDS[event.what](state, event)


def _started(state: RunState, event: RuntimeEvent) -> RunState:
    began = event.time if state.began is None else state.began
    return replace(state, coordinators=state.coordinators + 1, began=began)


def _seen(state: RunState, event: RuntimeEvent) -> RunState:
    return replace(state, ledger=state.ledger.admit(event.hardware, event.host)[0])


def _marked(state: RunState, event: RuntimeEvent) -> RunState:
    assert event.host_event is not None
    at = event.time if event.fault else None
    limit = event.max_faults or REPEAT_FAULTS
    return replace(state, ledger=state.ledger.apply(event.hardware, event.host_event, event.reason, at, limit))


def _attempt(state: RunState, event: RuntimeEvent) -> RunState:
    return replace(
        state,
        attempt=event.attempt or 0,
        phase="running",
        paused_for=None,
        paused_words="",
        gang=event.gang,
        trajectory=event.trajectory if event.trajectory is not None else state.trajectory,
        started=event.time,
        values=event.values or state.values,
    )


def _paused(state: RunState, event: RuntimeEvent) -> RunState:
    return replace(state, phase="paused", paused_for=event.cause, paused_words=event.reason, gang=())


def _completed(state: RunState, _: RuntimeEvent) -> RunState:
    return replace(state, phase="completed", gang=())


def _failed(state: RunState, event: RuntimeEvent) -> RunState:
    assert event.cause is not None
    failure = Failure(event.time, event.cause, event.step or 0)
    return replace(state, failures=(*state.failures, failure)[-FAILURES_KEPT:])


def _intervened(state: RunState, event: RuntimeEvent) -> RunState:
    return replace(state, interventions=(*state.interventions, event.step or 0))


def _progress(state: RunState, event: RuntimeEvent) -> RunState:
    return replace(
        state,
        highest_step=max(state.highest_step, event.step or 0),
        steps_lost=max(state.steps_lost, event.steps_lost),
        loss=state.loss if event.loss is None else event.loss,
        goodput=event.goodput or state.goodput,
        goodput_at=event.time,
        section_seconds=event.section_seconds or state.section_seconds,
        values=event.values or state.values,
    )


def _changed(state: RunState, event: RuntimeEvent) -> RunState:
    assert event.live_change is not None
    return replace(state, changes=(*state.changes, event.live_change), values=event.values or state.values)


def _verified(state: RunState, event: RuntimeEvent) -> RunState:
    """A checkpoint that a later attempt saves at the same step is no progress beyond it."""
    return replace(state, verified=state.verified | {event.step or 0}, verified_at=event.time)


def _suspend(state: RunState, _: RuntimeEvent) -> RunState:
    return replace(state, suspend=True)


def _resume(state: RunState, _: RuntimeEvent) -> RunState:
    cause: Cause | None = "Suspended" if state.phase == "paused" else state.paused_for
    return replace(state, suspend=False, paused_for=cause, paused_words="")


FOLDS: dict[What, Callable[[RunState, RuntimeEvent], RunState]] = {
    "CoordinatorStarted": _started,
    "HostSeen": _seen,
    "HostMarked": _marked,
    "AttemptStarted": _attempt,
    "Paused": _paused,
    "Completed": _completed,
    "Failed": _failed,
    "Intervened": _intervened,
    "Progress": _progress,
    "Suspend": _suspend,
    "Resume": _resume,
    "Changed": _changed,
    "Verified": _verified,
}
"""A resume turns any pause into a suspension that is over: a person has looked."""
