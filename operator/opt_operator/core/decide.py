"""`decide`: one frozen snapshot in, one decision out. Rules in order; the first that has something to say decides."""

from __future__ import annotations

from collections.abc import Callable

from opt_api.training.status import OPTTrainingStatus
from opt_operator.core.actions import Action, Decision, Delete, Event
from opt_operator.core.diagnosis import diagnose, findings
from opt_operator.core.phases import allowed
from opt_operator.core.plans import plan_in_force
from opt_operator.core.rules.finish import complete, over
from opt_operator.core.rules.prepare import prepare, tidy
from opt_operator.core.rules.queueing import queue
from opt_operator.core.rules.run import run
from opt_operator.core.rules.suspend import suspend
from opt_operator.core.rules.verdict import IDLE_S, LATER_S, SOON_S, Case, Verdict, parent_of
from opt_operator.core.snapshot import Snapshot
from opt_operator.core.status import render
from opt_operator.core.views import PodView

CaseRule = Callable[[Case], Verdict | None]
STAGES: tuple[tuple[str, CaseRule], ...] = (
    ("suspend", suspend),
    ("queue", queue),
    ("prepare", prepare),
    ("complete", complete),
    ("run", run),
)
"""What a training that can run is asked, in this order."""
TOLD_ALONE, TOLD_NAMES = 8, 32
WARNINGS = ("Recovering", "Paused", "Failed")


def decide(snapshot: Snapshot) -> Decision:
    """What to do now. Deciding twice on the same snapshot gives the same answer."""
    stuck = tuple(_force(pod) for pod in snapshot.pods if diagnose(snapshot, pod).symptom == "GoingStuck")
    rest = SOON_S if any(pod.going for pod in snapshot.pods) else IDLE_S
    if snapshot.resource is None:
        return Decision("gone", stuck, requeue_after=rest, trace=("the resource is gone; its children follow",))
    if snapshot.resource.metadata.deletion_timestamp is not None:
        return _finish(snapshot, "deleting", Verdict("Deleting", "Deleting", "", stuck, requeue_after=LATER_S))
    name, verdict = _ask(snapshot)
    return _finish(snapshot, name, verdict, stuck)


def _ask(snapshot: Snapshot) -> tuple[str, Verdict]:
    done = over(snapshot)
    if done is not None:
        return "over", done
    plan = plan_in_force(snapshot)
    if snapshot.training is None or plan is None or (snapshot.problems and not snapshot.hosts):
        phase = snapshot.status.phase or "Pending"
        return "check", Verdict(phase, "BadSpec", "; ".join(snapshot.problems), requeue_after=IDLE_S)
    case = Case(snapshot, snapshot.training, plan, parent_of(snapshot))
    for name, rule in STAGES:
        verdict = rule(case)
        if verdict is not None:
            return name, verdict if name == "prepare" else _with(verdict, tidy(case))
    raise AssertionError("the last rule always answers")


def _with(verdict: Verdict, more: tuple[Action, ...]) -> Verdict:
    if not more or verdict.phase == "Suspended":
        return verdict
    return Verdict(
        verdict.phase, verdict.reason, verdict.message, (*verdict.actions, *more), verdict.update, verdict.conditions,
        verdict.requeue_after,
    )  # fmt: skip


def _finish(snapshot: Snapshot, rule: str, verdict: Verdict, first: tuple[Action, ...] = ()) -> Decision:
    status = render(snapshot, verdict)
    events = _events(snapshot, status, verdict)
    changed = status != snapshot.status
    return Decision(
        rule=rule,
        actions=(*first, *verdict.actions, *events),
        status=status if changed else None,
        requeue_after=verdict.requeue_after,
        trace=_trace(snapshot, rule, verdict),
    )


def _events(snapshot: Snapshot, after: OPTTrainingStatus, verdict: Verdict) -> tuple[Event, ...]:
    """One event for each transition: of the phase, and of an intent. Their names say which, so none comes twice."""
    before, made = snapshot.status, []
    where = f"{after.pod_attempt}.{after.attempt}.{after.observed_generation}"
    if after.phase != before.phase and after.phase is not None:
        message = f"{after.phase}: {verdict.message or verdict.reason}"
        warning = after.phase in WARNINGS
        made.append(Event(after.phase, message[:1000], f"{before.phase}-{after.phase}-{where}", warning))
    if after.intent is not None and after.intent != before.intent:
        intent = after.intent
        made.append(Event(intent.reason, intent.message[:1000], f"intent-{where}", intent.rung in ("Swap", "Restart")))
    return tuple(made)


def _trace(snapshot: Snapshot, rule: str, verdict: Verdict) -> tuple[str, ...]:
    """What was seen, in the order in which it was looked at."""
    status, report = snapshot.status, snapshot.report
    intent = status.intent.reason if status.intent else "none"
    seen = [
        f"status: phase {status.phase}, pod attempt {status.pod_attempt}, intent {intent}",
        f"coordinator: {f'{report.phase}, attempt {report.attempt}, step {report.step}' if report else 'not heard'}",
        *_pods(snapshot),
        *(f"Job {j.metadata.name}: {j.status.succeeded} succeeded, {j.status.failed} failed" for j in snapshot.jobs),
    ]
    if not allowed(status.phase, verdict.phase):
        seen.append(f"phase {verdict.phase} may not follow {status.phase}; it stays")
    return (*seen, f"rule {rule}: {verdict.phase}, {verdict.reason}: {verdict.message}")


def _pods(snapshot: Snapshot) -> tuple[str, ...]:
    """What is the matter with each pod; many of one symptom share a line, as a large gang would fill the record."""
    found = findings(snapshot, (*snapshot.coordinators, *snapshot.hosts))
    told: list[str] = []
    for symptom in dict.fromkeys(finding.symptom for finding in found):
        alike = [finding for finding in found if finding.symptom == symptom]
        head = f"{symptom} ({alike[0].policy.treatment})"
        if len(alike) > TOLD_ALONE:
            names = ", ".join(finding.name.removeprefix(f"{snapshot.meta_name}-") for finding in alike[:TOLD_NAMES])
            more = f" and {len(alike) - TOLD_NAMES} more" if len(alike) > TOLD_NAMES else ""
            told.append(f"{head}, {len(alike)} pods ({names}{more}): {alike[0].words}")
        else:
            told += [f"{head}: {finding.words}" for finding in alike]
    return tuple(told)


def _force(pod: PodView) -> Delete:
    return Delete("Pod", pod.metadata.name, pod.metadata.uid, 0, "it should have been gone by now")
