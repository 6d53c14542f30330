"""The way back of a quarantined machine: burned in by a Job on its node, then pardoned, then checked like any other."""

from __future__ import annotations

from datetime import timedelta

from opt_api.training.status import HostStatus
from opt_operator.core import names
from opt_operator.core.actions import Action, Apply, Create, Delete, Tell
from opt_operator.core.builders import jobs
from opt_operator.core.rules.verdict import Case
from opt_operator.core.views import JobView, NodeView

AGAIN_AFTER = timedelta(hours=1)
"""A machine that failed is tried again after so long; it may have been repaired."""
MAY_WORK = ("Good", "Avoid")


def burn_in(case: Case) -> tuple[Action, ...]:
    """What quarantined machines need now. They are in the status first: nothing is touched before that is written."""
    if not case.plan.resilience.host_checks.enabled:
        return _unwanted(case, set())
    suspected = {names.machine(host.hardware): host for host in case.snapshot.status.hosts if _waits(host)}
    loaded = {label: _job(case, label) for label in suspected}
    told = [action for label, host in suspected.items() for action in _next(case, host, loaded[label])]
    return (*told, *_unwanted(case, set(suspected)))


def _waits(host: HostStatus) -> bool:
    return host.state == "Quarantined"


def _next(case: Case, host: HostStatus, job: JobView | None) -> tuple[Action, ...]:
    if job is None:
        node = _node(case, host)
        return (Create(_document(case, node, host)),) if node else ()
    if job.metadata.deletion_timestamp is not None:
        return ()
    if job.condition("Complete"):
        reason = f"it stood {jobs.BURN_IN_TIMES} times the usual load in Job {job.metadata.name}"
        return (Tell("/pardon", {"hardware": host.hardware, "reason": reason}),)
    if job.spec.suspend:
        resumed = jobs.suspended(case.parent.namespace, job.metadata.name, suspend=False)
        return (Apply(resumed, "opt-workload"),)
    failed = job.condition("Failed")
    since = failed.last_transition_time if failed else None
    if since is not None and case.snapshot.now - since > AGAIN_AFTER:
        return (_delete(job, "it is tried again"),)
    return ()


def _document(case: Case, node: NodeView, host: HostStatus) -> dict[str, object]:
    name, image = node.metadata.name, case.trainer_image()
    return jobs.burn_in_job(case.parent, case.plan, image, case.number, name, host.hardware)


def _node(case: Case, host: HostStatus) -> NodeView | None:
    """The machine under whatever name it has now, if it could run a pod."""
    snapshot = case.snapshot
    found = [node for node in (snapshot.nodes or {}).values() if names.is_on(host.hardware, node.hardware)]
    return next((node for node in found if snapshot.verdicts[node.metadata.name].state in MAY_WORK), None)


def _unwanted(case: Case, wanted: set[str]) -> tuple[Action, ...]:
    """Jobs of machines that are refused no more."""
    found = [job for job in _jobs(case) if job.metadata.labels.get(names.MACHINE) not in wanted]
    return tuple(_delete(job, "its machine is not quarantined") for job in found if not job.metadata.deletion_timestamp)


def _job(case: Case, label: str) -> JobView | None:
    return next((job for job in _jobs(case) if job.metadata.labels.get(names.MACHINE) == label), None)


def _jobs(case: Case) -> list[JobView]:
    return [job for job in case.snapshot.jobs if job.metadata.labels.get(names.ROLE) == "burn-in"]


def _delete(job: JobView, why: str) -> Delete:
    return Delete("Job", job.metadata.name, job.metadata.uid, why=why)
