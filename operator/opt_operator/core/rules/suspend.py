"""Suspended: save, stop, give every host back; what was learnt stays in status and store."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from opt_api.training.status import Phase
from opt_operator.core import names
from opt_operator.core.actions import Action, Apply, Delete, Tell
from opt_operator.core.builders import jobs
from opt_operator.core.builders.queueing import QUEUE_LABEL
from opt_operator.core.rules.verdict import IDLE_S, SOON_S, Case, Verdict, intend
from opt_operator.core.views import JobView, PodView

PATIENCE_S = 120
"""Beyond the deadline of a save; then hosts are given back although nobody has said that they saved."""


def suspend(case: Case) -> Verdict | None:
    """What suspension asks for now; None while it is not wanted."""
    if not case.training.spec.suspend:
        return None
    held = _hold_jobs(case)
    pods = [pod for pod in (*case.snapshot.hosts, *case.snapshot.coordinators) if not pod.ended]
    if not pods:
        update: dict[str, Any] = {"intent": None, "pod_failures": ()}
        return Verdict("Suspended", "Suspended", "every host was given back", held, update, requeue_after=IDLE_S)
    if not _written_down(case):
        update = _update(case)
        return Verdict(_now(case), "Suspending", "the gang is asked to save", held, update, requeue_after=0.0)
    if _saved(case) or _late(case):
        words = "saved" if _saved(case) else "no word of a save in time; the newest checkpoint is what remains"
        gone = tuple(_delete(case, pod) for pod in pods if not pod.going)
        return Verdict(_now(case), "GivingBack", words, (*held, *gone), requeue_after=SOON_S)
    told = (Tell("/suspend", {"reason": "suspend is true"}),) if _unasked(case) else ()
    return Verdict(_now(case), "Suspending", "the gang saves and stops", (*held, *told), requeue_after=SOON_S)


def _now(case: Case) -> Phase:
    """The phase stays until the hosts are gone."""
    return case.snapshot.status.phase or "Pending"


def _update(case: Case) -> dict[str, Any]:
    return intend(case, "Pause", "Suspending", "suspend is true")


def _written_down(case: Case) -> bool:
    intent = case.snapshot.status.intent
    return intent is not None and intent.rung == "Pause"


def _unasked(case: Case) -> bool:
    report = case.snapshot.report
    return report is not None and not report.suspend


def _saved(case: Case) -> bool:
    """The coordinator says that the gang stands, or there is none that could have anything to save."""
    report = case.snapshot.report
    if report is not None:
        return report.phase in ("paused", "none", "completed")
    return all(pod.status.phase != "Running" for pod in case.snapshot.coordinators)


def _late(case: Case) -> bool:
    intent = case.snapshot.status.intent
    patience = case.training.spec.resilience.section_deadlines.save + PATIENCE_S
    return intent is not None and case.snapshot.now - intent.time > timedelta(seconds=patience)


def _delete(case: Case, pod: PodView) -> Delete:
    lost = case.snapshot.verdict_of(pod).state == "Lost"
    return Delete("Pod", pod.metadata.name, pod.metadata.uid, 0 if lost else None, "suspended")


def _hold_jobs(case: Case) -> tuple[Action, ...]:
    running = [
        job
        for job in case.snapshot.jobs
        if job.metadata.labels.get(names.ROLE) in ("dataprep", "evaluation")
        and (not job.spec.suspend or QUEUE_LABEL in job.metadata.labels)
        and not job.condition("Complete")
        and not job.condition("Failed")
        and job.metadata.deletion_timestamp is None
    ]
    return tuple(_hold(case, job) for job in running)


def _hold(case: Case, job: JobView) -> Action:
    """Kueue would let a suspended Job go again: one in a queue goes, and its successor finds what it has done."""
    name = job.metadata.name
    if QUEUE_LABEL in job.metadata.labels:
        return Delete("Job", name, job.metadata.uid, why="suspended")
    return Apply(jobs.suspended(case.parent.namespace, name, suspend=True), "opt-workload")
