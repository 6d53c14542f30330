"""The data set: found in the store, or made by Indexed Jobs, one stage after the other."""

from __future__ import annotations

from typing import Any

from opt_api.documents.preparation_report import PreparationReport
from opt_operator.core import names
from opt_operator.core.actions import Action, Apply, Create, Delete
from opt_operator.core.builders import jobs
from opt_operator.core.builders.queueing import QUEUE_LABEL, job_queued
from opt_operator.core.conditions import said
from opt_operator.core.rules.surroundings import base
from opt_operator.core.rules.verdict import LATER_S, Case, Verdict, intend
from opt_operator.core.symptoms import may_help_again
from opt_operator.core.views import JobView, PodView


def prepare(case: Case) -> Verdict | None:
    """The next stage; None once there is a data set."""
    status, spec = case.snapshot.status, case.training.spec
    if spec.data.dataset is not None or status.dataset is not None:
        return None
    report = _report(case, jobs.PLAN_STAGE)
    if report is None:
        return _stage(case, jobs.PLAN_STAGE, None)
    if report.dataset:
        return _ready(case, report)
    for stage in report.stages:
        job = _job(case, stage)
        if job is None or not job.condition("Complete"):
            return _stage(case, stage, report.plan)
    last = _report(case, report.stages[-1]) if report.stages else None
    if last is None or not last.dataset:
        return _again(case, "NoManifest", "every stage is complete and none has said where the manifest is")
    return _ready(case, last)


def tidy(case: Case) -> tuple[Action, ...]:
    """Jobs of a preparation that is over."""
    return tuple(
        Delete("Job", job.metadata.name, job.metadata.uid, why="the data set is ready")
        for job in case.snapshot.jobs
        if job.metadata.labels.get(names.ROLE) == "dataprep" and job.metadata.deletion_timestamp is None
    )


def _ready(case: Case, report: PreparationReport) -> Verdict:
    message = f"{report.dataset}"
    update: dict[str, Any] = {"dataset": report.dataset, "dataset_digest": report.manifest_digest, "intent": None}
    conditions = {"DatasetReady": said(holds=True, reason="Prepared", message=message)}
    return Verdict("Preparing", "DatasetReady", message, update=update, conditions=conditions, requeue_after=0.0)  # type: ignore[arg-type]


def _stage(case: Case, stage: str, key: str | None) -> Verdict:
    job = _job(case, stage)
    if job is None or job.metadata.deletion_timestamp is not None:
        return _begin(case, stage, key)
    if failed := job.condition("Failed"):
        return _failed(case, stage, job, failed.message)
    if job.condition("Complete"):
        return _again(case, "NoReport", f"stage {stage} is complete and has left no report")
    resumed = jobs.suspended(case.parent.namespace, job.metadata.name, suspend=False)
    actions: tuple[Action, ...] = base(case)
    if job.spec.suspend and QUEUE_LABEL not in job.metadata.labels:
        actions = (*actions, Apply(resumed, "opt-workload"))
    done = f"stage {stage}: {job.status.succeeded} of {job.spec.completions or 1} completions"
    return Verdict("Preparing", "StageRunning", done, actions, requeue_after=LATER_S)


def _begin(case: Case, stage: str, key: str | None) -> Verdict:
    if not case.open:
        update = intend(case, "Recreate", "Preparing", f"stage {stage} of data preparation")
        return Verdict("Preparing", "Preparing", "data preparation begins", update=update, requeue_after=0.0)
    image = case.dataprep_image()
    if key is None:
        document = jobs.plan_job(case.parent, case.plan, image, case.number)
    else:
        document = jobs.stage_job(case.parent, case.plan, image, stage, case.number, key)
    actions = (*base(case), Create(job_queued(document, case.queueing)))
    return Verdict("Preparing", "StageStarted", f"stage {stage} begins", actions, requeue_after=LATER_S)


def _failed(case: Case, stage: str, job: JobView, message: str) -> Verdict:
    ends = [pod.end for pod in _pods(case, stage) if pod.status.phase == "Failed" and pod.end]
    end = ends[-1] if ends else None
    words = f"stage {stage}: {end.message if end and end.message else message}"[:1500]
    if end is not None and not may_help_again(end.exit_code):
        update = {"completion_time": case.snapshot.now}
        return Verdict("Failed", "DataPreparationFailed", words, update=update)
    failures = (*case.snapshot.status.pod_failures, case.snapshot.now)[-16:]
    budget = case.training.spec.resilience.budget
    recent = [t for t in failures if (case.snapshot.now - t).total_seconds() < budget.window_seconds]
    if len(recent) > min(budget.failures, 15):
        return Verdict("Paused", "BudgetSpent", words, requeue_after=LATER_S)
    return _again(case, "StageFailed", words, failures)


def _again(case: Case, reason: str, words: str, failures: tuple[Any, ...] | None = None) -> Verdict:
    """A new attempt: Jobs of new names; what was committed is found again."""
    update = intend(case, "Recreate", reason, words)
    if failures is not None:
        update["pod_failures"] = failures
    return Verdict("Preparing", reason, words, update=update, requeue_after=0.0)


def _job(case: Case, stage: str) -> JobView | None:
    """The stage's newest Job; one that failed under an older number is over."""
    found = [job for job in case.snapshot.jobs if job.metadata.labels.get(names.STAGE) == stage]
    alive = [job for job in found if job.metadata.attempt >= case.number or not job.condition("Failed")]
    return max(alive, key=lambda job: job.metadata.attempt, default=None)


def _report(case: Case, stage: str) -> PreparationReport | None:
    """What a stage's pods have said last."""
    for pod in reversed(_pods(case, stage)):
        end = pod.end
        if pod.status.phase == "Succeeded" and end and (found := _read(end.message)):
            return found
    return None


def _read(message: str) -> PreparationReport | None:
    try:
        return PreparationReport.from_bytes(message.strip().splitlines()[-1].encode())
    except (ValueError, IndexError):
        return None


def _pods(case: Case, stage: str) -> list[PodView]:
    found = [pod for pod in case.snapshot.pods if pod.metadata.labels.get(names.STAGE) == stage]
    return sorted(found, key=lambda pod: (pod.metadata.attempt, pod.metadata.creation_timestamp is not None))
