"""The end: evaluation, success, and what stays of a training that is over."""

from __future__ import annotations

from datetime import timedelta

from opt_operator.core import names
from opt_operator.core.actions import Action, Apply, Create, Delete
from opt_operator.core.builders import jobs
from opt_operator.core.builders.queueing import QUEUE_LABEL, job_queued
from opt_operator.core.conditions import said
from opt_operator.core.phases import TERMINAL
from opt_operator.core.rules.surroundings import base
from opt_operator.core.rules.verdict import IDLE_S, LATER_S, Case, Verdict, intend
from opt_operator.core.snapshot import Snapshot
from opt_operator.core.views import PodView


def over(snapshot: Snapshot) -> Verdict | None:
    """A terminal training stays what it is, whatever becomes of its children; after its time it goes."""
    phase = snapshot.status.phase
    if phase not in TERMINAL or phase is None:
        return None
    ready = next((c for c in snapshot.status.conditions if c.type == "Ready"), None)
    reason, message = (ready.reason, ready.message) if ready else (phase, "")
    left = [pod for pod in (*snapshot.hosts, *snapshot.coordinators) if not pod.ended and not pod.going]
    actions: list[Action] = [_delete(pod) for pod in left if not _finishing(snapshot, pod)]
    wait = IDLE_S if not left else LATER_S
    ttl = snapshot.training.spec.ttl_seconds_after_finished if snapshot.training else None
    if ttl is not None and snapshot.status.completion_time is not None and snapshot.resource is not None:
        rest = (snapshot.status.completion_time + timedelta(seconds=ttl) - snapshot.now).total_seconds()
        wait = min(wait, max(rest, 0.1))
        if rest <= 0:
            meta = snapshot.resource.metadata
            actions = [Delete("OPTTraining", meta.name, meta.uid, why=f"finished {ttl} s ago")]
    return Verdict(phase, reason, message, tuple(actions), requeue_after=wait)


def complete(case: Case) -> Verdict | None:
    """Trained: evaluate if that is wanted, then be done."""
    snapshot, until = case.snapshot, case.training.spec.until
    if until == "Data":
        return _succeed(case, "DatasetReady", snapshot.status.dataset or "")
    if snapshot.status.phase != "Evaluating" and not trained(snapshot):
        return None
    if until == "Training":
        return _succeed(case, "Trained", _steps(case))
    return _evaluate(case)


def trained(snapshot: Snapshot) -> bool:
    """The newest coordinator said so, or ended as it does only then."""
    if snapshot.report is not None and snapshot.report.phase == "completed":
        return True
    newest = snapshot.coordinator
    return newest is not None and newest.status.phase == "Succeeded"


def _evaluate(case: Case) -> Verdict:
    found = [job for job in case.snapshot.jobs if job.metadata.labels.get(names.ROLE) == "evaluation"]
    job = max(found, key=lambda job: job.metadata.attempt, default=None)
    if case.snapshot.status.phase != "Evaluating":
        update = intend(case, "Recreate", "Evaluating", _steps(case))
        return Verdict("Evaluating", "Trained", _steps(case), update=update, requeue_after=0.0)
    if job is None:
        dataset = case.training.spec.data.dataset or case.snapshot.status.dataset
        assert dataset is not None
        document = jobs.evaluation_job(case.parent, case.plan, case.trainer_image(), case.number, dataset)
        actions: tuple[Action, ...] = (*base(case), Create(job_queued(document, case.queueing)))
        return Verdict("Evaluating", "Evaluating", "validation runs", actions)
    if job.condition("Complete"):
        return _succeed(case, "Evaluated", _steps(case))
    if failed := job.condition("Failed"):
        verdict = _succeed(case, "EvaluationFailed", f"trained, not evaluated: {failed.message}")
        words = said(holds=True, reason="EvaluationFailed", message=failed.message)
        return Verdict(verdict.phase, verdict.reason, verdict.message, (), verdict.update, {"Degraded": words})
    actions = ()
    if job.spec.suspend and QUEUE_LABEL not in job.metadata.labels:
        actions = (Apply(jobs.suspended(case.parent.namespace, job.metadata.name, suspend=False), "opt-workload"),)
    return Verdict("Evaluating", "Evaluating", "validation runs", actions, requeue_after=LATER_S)


def _succeed(case: Case, reason: str, message: str) -> Verdict:
    done = case.snapshot.status.completion_time or case.snapshot.now
    return Verdict("Succeeded", reason, message, update={"completion_time": done, "intent": None})


def _steps(case: Case) -> str:
    return f"{case.plan.recipe.total_steps} steps are done"


def _finishing(snapshot: Snapshot, pod: PodView) -> bool:
    """Hosts get a moment to leave by themselves."""
    done = snapshot.status.completion_time
    return pod.slot >= 0 and done is not None and snapshot.now - done < timedelta(seconds=10)


def _delete(pod: PodView) -> Delete:
    return Delete("Pod", pod.metadata.name, pod.metadata.uid, why="the training is over")
