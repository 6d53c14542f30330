"""Finding something newer: what calls for a look, the gate that looks, and what comes of it."""

from __future__ import annotations

from datetime import datetime, timedelta

from opt_api.canonical import canonical_json, digest
from opt_api.documents.gate_report import GateReport
from opt_api.serving.status import FollowStatus, GateStatus, ServedCheckpoint
from opt_operator.core.serving import names
from opt_operator.core.serving.case import Case, Update
from opt_operator.core.views import JobView, PodView

AGAIN_S, AGAIN_LIMIT_S = 15.0, 600.0
"""Until the next look after one that came to no end: doubled each time."""
NOTHING_S = 60.0
"""Until the next look where the source had nothing to serve and nobody will say when it has."""
KEPT_REJECTED = 64


def look(case: Case) -> Update:
    """What changes in the status; a gate is written down before its Job is made."""
    status, source = case.status, case.status.source or FollowStatus()
    gate = status.gate or GateStatus()
    if unreachable(case):
        return {}
    wish = wish_of(case)
    if source.wish != wish:
        return _wished(case, gate, wish)
    update = _noticed(case, source)
    if gate.state == "Running":
        return {**update, **_outcome(case, gate, update.get("source", source))}
    if update or status.candidate is not None or status.roll is not None or not _due(case, source):
        return update
    return _begin(gate, source)


def wish_of(case: Case) -> str:
    """Names what the source says now."""
    storage = case.snapshot.storage
    told = {"source": case.spec.source.wire(), "storage": storage.wire() if storage else None}
    return digest(canonical_json(told)).removeprefix("sha256:")[:12]


def unreachable(case: Case) -> str:
    """Why the source cannot be looked at; empty if it can."""
    source, storage = case.spec.source, case.snapshot.storage
    if source.training is not None and storage is None:
        found = "has no storage" if case.snapshot.training else "is not there"
        return (
            f"spec.source.training: found {source.training.name!r}, which {found} in this namespace; "
            "make the training, or name its storage in spec.storage"
        )
    uri = source.uri or ""
    if uri.startswith("s3://") and (storage is None or storage.s3 is None):
        return f"spec.storage: found none for {uri}; s3 with an endpoint is needed"
    if uri.startswith("file://") and (storage is None or storage.volume is None):
        return f"spec.storage: found none for {uri}; a volume is needed, which pods find at /store"
    return ""


def lacking(case: Case) -> str:
    """What the cluster has not, without which no replica can be made; empty if there is nothing."""
    hosts = case.spec.engine.hosts_per_replica
    if hosts == 1 or names.LEADER_WORKER_SETS in case.snapshot.apis:
        return ""
    return (
        f"spec.engine.hostsPerReplica: found {hosts}, and the cluster has no {names.LEADER_WORKER_SETS}; "
        "install LeaderWorkerSet, or set it to 1"
    )


def _wished(case: Case, gate: GateStatus, wish: str) -> Update:
    """Another source: what was learnt of the one before does not count, unless it is kept ready."""
    fresh = FollowStatus(wish=wish, noticed=_newest(case))
    kept = _kept(case)
    if kept is not None:
        return {
            "source": fresh,
            "candidate": case.as_served(kept),
            "rejected": (),
            "rejected_message": "",
            "roll": None,
        }
    return {**_begin(gate, fresh), "rejected": (), "rejected_message": "", "candidate": None, "roll": None}


def _kept(case: Case) -> ServedCheckpoint | None:
    """The pinned step, where it was served before and passed its gate then."""
    wanted = case.spec.source.training
    if wanted is None or wanted.step is None:
        return None
    return next((c for c in case.status.previous if c.step == wanted.step), None)


def _newest(case: Case) -> str | None:
    found = case.snapshot.training_status.checkpoint
    return found.digest if found else None


def _noticed(case: Case, source: FollowStatus) -> Update:
    """The training has a newer checkpoint: look when it is old enough, or earlier for one noticed before."""
    found, training = case.snapshot.training_status.checkpoint, case.spec.source.training
    if found is None or training is None or found.digest == source.noticed:
        return {}
    due = max(case.snapshot.now, found.time + timedelta(seconds=training.min_age_seconds))
    first = min(due, source.next_look) if source.next_look else due
    return {"source": source.model_copy(update={"noticed": found.digest, "next_look": first})}


def _due(case: Case, source: FollowStatus) -> bool:
    if source.next_look is None or source.next_look > case.snapshot.now:
        return False
    return case.status.served is None or case.spec.rollout.follow


def _begin(gate: GateStatus, source: FollowStatus) -> Update:
    return {
        "gate": GateStatus(number=gate.number + 1, state="Running"),
        "source": source.model_copy(update={"next_look": None}),
    }


def _outcome(case: Case, gate: GateStatus, source: FollowStatus) -> Update:
    job = case.snapshot.gate_job(gate.number)
    if job is None:
        return {}
    report = report_of(case.snapshot.pods, gate.number)
    if report is not None and job.condition("Complete"):
        return _judged(case, gate, source, report)
    if failed := job.condition("Failed") or job.condition("Complete"):
        return _again(case, gate, source, _words(case, job, failed.message))
    return {}


def _judged(case: Case, gate: GateStatus, source: FollowStatus, report: GateReport) -> Update:
    later = _earlier(source.next_look, report.later)
    if report.checkpoint is None and later is None and case.status.served is None and case.spec.source.uri:
        later = case.snapshot.now + timedelta(seconds=NOTHING_S)
    after = source.model_copy(update={"failures": 0, "next_look": later})
    update: Update = {"gate": GateStatus(number=gate.number, message=report.reason), "source": after}
    found = report.checkpoint
    if found is None:
        return update
    if not report.passed:
        kept = [d for d in case.status.rejected if d != found.digest]
        message = f"step {found.step}: {report.reason}" if found.step is not None else report.reason
        rejected = (*kept, found.digest)[-KEPT_REJECTED:]
        again = after.model_copy(update={"next_look": case.snapshot.now})  # an earlier one may do
        return {**update, "source": again, "rejected": rejected, "rejected_message": message}
    checkpoint = ServedCheckpoint(
        step=found.step, digest=found.digest, uri=found.uri, time=found.time,
        loss=None if found.loss is None else f"{found.loss:.4f}",
    )  # fmt: skip
    if case.status.served is not None and case.status.served.digest == found.digest:
        return update
    return {**update, "candidate": case.as_served(checkpoint)}


def _again(case: Case, gate: GateStatus, source: FollowStatus, words: str) -> Update:
    wait = min(AGAIN_S * 2.0 ** min(source.failures, 16), AGAIN_LIMIT_S)
    next_look = case.snapshot.now + timedelta(seconds=wait)
    after = source.model_copy(update={"failures": source.failures + 1, "next_look": next_look})
    return {"gate": GateStatus(number=gate.number, message=words), "source": after}


def _words(case: Case, job: JobView, message: str) -> str:
    ends = [pod.end for pod in _pods(case.snapshot.pods, job.metadata.attempt) if pod.end]
    said = ends[-1].message if ends and ends[-1].message else message
    return f"the gate came to no end: {said or 'it left no report'}"[:1500]


def _pods(pods: tuple[PodView, ...], number: int) -> list[PodView]:
    return [pod for pod in pods if pod.role == "gate" and pod.metadata.labels.get(names.ATTEMPT) == str(number)]


def report_of(pods: tuple[PodView, ...], number: int) -> GateReport | None:
    """What the gate's pod left."""
    for pod in _pods(pods, number):
        if pod.status.phase == "Succeeded" and pod.end:
            try:
                return GateReport.from_bytes(pod.end.message.encode())
            except ValueError:
                continue
    return None


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    known = [moment for moment in (one, other) if moment is not None]
    return min(known, default=None)
