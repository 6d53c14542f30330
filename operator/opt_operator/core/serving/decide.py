"""`decide` for a served model: one frozen snapshot in, one decision out.

The rules say what changes in the status; what is done to objects follows from the status as it was read, so that every
deed was written down before it.
"""

from __future__ import annotations

from datetime import datetime

from opt_api.serving.status import OPTServeStatus
from opt_operator.core.actions import Decision, Event
from opt_operator.core.serving.case import Case, Update
from opt_operator.core.serving.look import look, unreachable
from opt_operator.core.serving.realise import realise
from opt_operator.core.serving.roll import roll
from opt_operator.core.serving.scale import scale
from opt_operator.core.serving.snapshot import ServeSnapshot
from opt_operator.core.serving.status import refused, render

IDLE_S, STEADY_S, SOON_S = 600.0, 10.0, 1.0
WARNINGS = ("RollingBack", "Failed")


def decide(snapshot: ServeSnapshot) -> Decision:
    """What to do now. Deciding twice on the same snapshot gives the same answer."""
    resource = snapshot.resource
    if resource is None:
        return Decision("gone", requeue_after=IDLE_S, trace=("the resource is gone; its children follow",))
    if resource.metadata.deletion_timestamp is not None:
        after = snapshot.status.model_copy(update={"phase": "Deleting"})
        return Decision("deleting", (), _if_changed(snapshot, after), STEADY_S, ("the resource is going",))
    if snapshot.serve is None:
        after = refused(snapshot)
        return Decision("check", (), _if_changed(snapshot, after), IDLE_S, snapshot.problems)
    return _decide(Case(snapshot, snapshot.serve))


def _decide(case: Case) -> Decision:
    rule, update = _ask(case)
    update |= scale(case)
    after = render(case, update)
    actions = realise(case) if _buildable(case) else ()
    return Decision(
        rule=rule,
        actions=(*actions, *_events(case, after)),
        status=_if_changed(case.snapshot, after),
        requeue_after=0.0 if update else _wait(case),
        trace=_trace(case, rule, after),
    )


def _ask(case: Case) -> tuple[str, Update]:
    """A roll goes on before anything newer is looked for; what both want to change is the roll's."""
    found = look(case)
    rolled = roll(case)
    name = "roll" if rolled else "look" if found else "settled"
    return name, rolled if {"candidate", "roll"} & set(found) & set(rolled) else {**found, **rolled}


def _buildable(case: Case) -> bool:
    return bool(case.made.engine_image and case.made.image)


def _wait(case: Case) -> float:
    """Until the next look at the latest; whatever happens is heard of at once."""
    status, now = case.status, case.snapshot.now
    if status.roll is not None or status.scale_down is not None or case.spec.autoscaling is not None:
        return SOON_S
    looking = status.gate is not None and status.gate.state == "Running"  # its end is heard; the next look waits for it
    due: datetime | None = status.source.next_look if status.source and not looking else None
    return STEADY_S if due is None else min(max((due - now).total_seconds(), 0.1), STEADY_S)


def _if_changed(snapshot: ServeSnapshot, after: OPTServeStatus) -> OPTServeStatus | None:
    return after if after != snapshot.status else None


def _events(case: Case, after: OPTServeStatus) -> tuple[Event, ...]:
    """One for each transition of the phase, each checkpoint that is served or rejected; their names say which."""
    before, made = case.status, []
    served = after.served.revision if after.served else ""
    if after.phase != before.phase and after.phase is not None:
        number = after.gate.number if after.gate else 0
        words = next((c.message for c in after.conditions if c.type == "Ready"), "")
        key = f"{before.phase}-{after.phase}-{number}-{served}"
        made.append(Event(after.phase, f"{after.phase}: {words}"[:1000], key, after.phase in WARNINGS))
    if after.rejected_message and after.rejected_message != before.rejected_message:
        made.append(Event("Rejected", after.rejected_message[:1000], after.rejected_message, warning=True))
    if after.served and served != (before.served.revision if before.served else ""):
        made.append(Event("Served", f"step {after.served.step}, revision {served}", f"served-{served}"))
    return tuple(made)


def _trace(case: Case, rule: str, after: OPTServeStatus) -> tuple[str, ...]:
    """What was seen, in the order in which it was looked at."""
    status, snapshot = case.status, case.snapshot
    newest = snapshot.training_status.checkpoint
    stage = status.roll.stage if status.roll else "none"
    revisions = sorted({c.revision or "" for c in (status.served, status.candidate, *status.previous) if c})
    seen = [
        f"status: phase {status.phase}, roll {stage}, wanted {status.wanted_replicas}",
        f"training: newest Verified checkpoint {f'step {newest.step}' if newest else 'not known'}",
        f"gate: {f'{status.gate.number} {status.gate.state} {status.gate.message}' if status.gate else 'none'}",
        *(f"revision {r}: {snapshot.ready(r)} of {len(snapshot.of_revision(r))} replicas ready" for r in revisions),
        f"gateways: {len(snapshot.gateways)} heard, requests in flight and held: {snapshot.demand}",
        *([problem] if (problem := unreachable(case)) else []),
    ]
    return (*seen, f"rule {rule}: {after.phase}")
