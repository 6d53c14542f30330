"""The gang: coordinator, hosts and spares are there, and whoever is lost is replaced."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from opt_api.training.status import Phase, Rung
from opt_operator.core.actions import Action, Apply, Create, Tell
from opt_operator.core.builders import pods
from opt_operator.core.builders.queueing import pod_group, pod_queued
from opt_operator.core.conditions import Said, Type, said
from opt_operator.core.diagnosis import Finding
from opt_operator.core.plans import change, wishes
from opt_operator.core.rules.burn_in import burn_in
from opt_operator.core.rules.coordinators import STEPPING, made_in
from opt_operator.core.rules.machines import avoid, room
from opt_operator.core.rules.places import COORDINATOR, Places, places_of, removals
from opt_operator.core.rules.surroundings import surroundings
from opt_operator.core.rules.verdict import LATER_S, SOON_S, Case, Verdict, intend
from opt_operator.core.views import CoordinatorReport

BACKOFF_LIMIT_S = 60
STEADY_S = 10.0
"""Between two looks while all is well; whatever happens is heard of at once."""
SAY_GONE_AFTER_S = 1.0


def run(case: Case) -> Verdict:
    """Make what is missing, take away what is in the way, and say how the run is."""
    places = places_of(case)
    empty = places.empty()
    told = (*_gone(places), *_dismissed(places), *_resume(case))
    change_actions, update = _changed(case)
    blamed = [f for f in places.all if f.policy.treatment == "pause" and f.attempt >= case.number]
    if hopeless := next(iter(blamed), None):
        return Verdict("Paused", hopeless.symptom, hopeless.words, requeue_after=LATER_S)
    if empty:
        return _fill(case, places, empty, told)
    closed: dict[str, Any] = {"intent": None} if case.snapshot.status.intent else {}
    actions = (*surroundings(case, places), *removals(places), *told, *change_actions, *burn_in(case))
    phase, reason, message = _state(case, places)
    wait = STEADY_S if phase in ("Running", "Queued") and not actions else SOON_S
    return Verdict(phase, reason, message, actions, {**update, **closed}, _conditions(case, places), wait)


def _fill(case: Case, places: Places, empty: tuple[int, ...], told: tuple[Action, ...]) -> Verdict:
    status, budget = case.snapshot.status, case.training.spec.resilience.budget
    why = places.reasons(empty)
    phase, _, _ = _state(case, places)
    if not case.open or places.taken_number(empty):
        return _write_down(case, places, why, told)
    since = case.snapshot.now - timedelta(seconds=budget.window_seconds)
    recent = [moment for moment in status.pod_failures if moment >= since]
    if len(recent) >= min(budget.failures, 16):
        words = f"{len(recent)} pods ended by themselves within {budget.window_seconds} s; the last: {_words(why)}"
        return Verdict("Paused", "BudgetSpent", words, requeue_after=LATER_S)
    if recent and (wait := _wait(case, recent)) > 0:
        message = f"next try in {wait:.0f} s: {_words(why)}"
        return Verdict(phase, "BackOff", message, told, requeue_after=wait)
    place = pods.Placement(avoid(case), alone=room(case))
    how = case.queueing
    made = tuple(Create(pod_queued(_pod(case, slot, place), case.parent.name, slot, how)) for slot in empty)
    group = pod_group(case.parent, case.plan, how)
    first = (Apply(group, "opt-workload"),) if group else ()
    intent = status.intent
    assert intent is not None
    actions = (*surroundings(case, places), *removals(places), *first, *made, *told)
    return Verdict(phase, intent.reason, intent.message, actions, conditions=_conditions(case, places))


def _write_down(case: Case, places: Places, why: tuple[Finding, ...], told: tuple[Action, ...]) -> Verdict:
    """Intent first: which attempt comes next and why; nothing is touched before that is read back."""
    counted = [case.snapshot.now for finding in why if finding.policy.counted]
    failures = (*case.snapshot.status.pod_failures, *counted)[-16:]
    reason = why[0].symptom if why else _beginning(case, places)
    message = _words(why) or f"{len(places.empty())} pods are to be made"
    phase, _, _ = _state(case, places)
    update = {**intend(case, _rung(places, why), reason, message), "pod_failures": failures}
    update["plan_digest"] = case.plan.digest()
    return Verdict(phase, reason, message, told, update, _conditions(case, places), requeue_after=0.0)


def _beginning(case: Case, places: Places) -> str:
    """Why pods are made where none was lost."""
    if places.all:
        return "PodGone"
    return "Resumed" if case.snapshot.status.step else "Started"


def _rung(places: Places, why: tuple[Finding, ...]) -> Rung:
    if not any(finding.pod.slot >= 0 for finding in places.all):
        return "Recreate"
    return "Swap" if any(finding.pod.slot >= 0 for finding in why) else "Restart"


def _pod(case: Case, slot: int, place: pods.Placement) -> dict[str, Any]:
    image = case.trainer_image()
    if slot == COORDINATOR:
        return pods.coordinator(case.parent, case.plan, image, case.number, made_in(case), avoid(case))
    dataset = case.training.spec.data.dataset or case.snapshot.status.dataset
    assert dataset is not None
    return pods.host(case.parent, case.plan, image, case.number, slot, dataset, place)


def _wait(case: Case, recent: list[datetime]) -> float:
    """Seconds until the next try after pods that ended by themselves: 2, 4, 8, ... at most a minute."""
    pause: float = min(2.0 ** len(recent), BACKOFF_LIMIT_S)
    return pause - (case.snapshot.now - recent[-1]).total_seconds()


def _gone(places: Places) -> list[Action]:
    """Tell the coordinator which hosts' nodes are lost; it acts if it does not hear them either."""
    report = places.case.snapshot.report
    if report is None:
        return []
    told: list[Action] = []
    for finding in places.hosts:
        agent = report.agent(finding.name)
        lost = finding.symptom in ("NodeLost", "NodeDoubtful", "GoingStuck")
        if lost and agent and not agent.gone and agent.silent_seconds > SAY_GONE_AFTER_S:
            told.append(Tell("/gone", {"host": finding.name, "word": finding.words}))
    return [*told, *_vanished(places, report)]


def _vanished(places: Places, report: CoordinatorReport) -> list[Action]:
    """Hosts of the gang that no pod is behind: those of a coordinator before, or of another life of the cluster."""
    there = {finding.name for finding in places.hosts if not finding.pod.ended}
    lost = sorted(host for host in report.gang - there if report.agent(host) is None)
    return [Tell("/gone", {"host": host, "word": "there is no pod of that name"}) for host in lost]


def _dismissed(places: Places) -> list[Action]:
    """Tell the coordinator not to count on hosts whose pods are on their way out; those at work it replaces itself."""
    report = places.case.snapshot.report
    if report is None:
        return []
    going = [f for f in places.hosts if f.pod.going and f.name not in report.gang and report.agent(f.name)]
    return [Tell("/dismiss", {"host": finding.name, "word": finding.words}) for finding in going]


def _resume(case: Case) -> list[Action]:
    """A run that a person had stopped goes on once the person wants it to."""
    report = case.snapshot.report
    if report is None or not (report.suspend or report.paused_for == "Suspended"):
        return []
    return [Tell("/resume", {"reason": "suspend is false"})]


def _changed(case: Case) -> tuple[tuple[Action, ...], dict[str, Any]]:
    """A spec that was changed while the gang runs."""
    snapshot, wanted = case.snapshot, case.snapshot.plan
    if wanted is None:
        return (), {}
    kind = change(case.plan, wanted)
    if kind == "coordinator":
        return (), {"plan_digest": wanted.digest()}
    if kind != "live" or snapshot.report is None or not snapshot.report.values:
        return (), {}
    missing = wishes(case.plan, wanted, snapshot.report.values)
    if not missing:
        return (), {"plan_digest": wanted.digest()}
    generation = snapshot.resource.metadata.generation if snapshot.resource else 0
    body = {"fields": missing, "who": "spec", "reason": f"generation {generation} of the spec"}
    return (Tell("/live-change", body),), {}


def _state(case: Case, places: Places) -> tuple[Phase, str, str]:
    """Phase, reason and message of a run as it stands."""
    report, before = case.snapshot.report, case.snapshot.status.phase
    if report is None:
        return _unheard(places, before)
    if report.phase == "paused" and report.paused_for != "Suspended":
        why = report.paused_words or "the coordinator stopped the gang"
        return "Paused", report.paused_for or "Paused", f"{why}; see `optctl logbook`"
    if report.phase != "running":
        ready = sum(finding.symptom == "Ready" for finding in places.hosts)
        held = _held(places)
        if held:
            return "Queued", held.symptom, held.words
        return "Starting", "WaitingForHosts", f"{ready} of {case.plan.layout.hosts} hosts have passed their checks"
    gang = [f for f in places.hosts if f.name in report.gang and f.policy.cause and f.symptom != "NodeLeaving"]
    if gang:
        return "Recovering", gang[0].symptom, gang[0].words
    stepping = any(worker.section in STEPPING and not worker.ended for worker in report.workers)
    if stepping or (before == "Running" and report.attempt == case.snapshot.status.attempt):
        return "Running", "Stepping", f"attempt {report.attempt} on {len(report.gang)} hosts"
    return ("Recovering" if report.attempt > 1 else "Starting"), "Loading", f"attempt {report.attempt} is being started"


def _unheard(places: Places, before: Phase | None) -> tuple[Phase, str, str]:
    """No word of the coordinator: what was so before is most likely still so."""
    if held := _held(places):
        return "Queued", held.symptom, held.words
    if before in ("Running", "Recovering", "Paused"):
        return before, "CoordinatorUnheard", "the coordinator does not answer; its gang goes on without it"
    return "Starting", "PodsStarting", "coordinator and hosts are being started"


def _held(places: Places) -> Finding | None:
    return next((f for f in places.all if f.symptom in ("Unschedulable", "Gated", "ImagePull", "BadContainer")), None)


def _conditions(case: Case, places: Places) -> dict[Type, Said]:
    bad = next((f for f in places.all if f.policy.degraded), None)
    if bad is not None:
        return {"Degraded": said(holds=True, reason=bad.symptom, message=bad.words)}
    wanted = case.snapshot.plan
    if wanted is not None and change(case.plan, wanted) == "attempt":
        message = "the changed spec waits for the next gang; suspend and resume the training to have it now"
        return {"Degraded": said(holds=False, reason="ChangeWaits", message=message)}
    return {"Degraded": said(holds=False, reason="AsWanted")}


def _words(found: tuple[Finding, ...]) -> str:
    return "; ".join(finding.words for finding in found[:4])[:1500]
