"""The status of a served model. Written once, last."""

from __future__ import annotations

from typing import Any

from opt_api.conditions import Conditions
from opt_api.serving.status import OPTServeStatus, ServePhase
from opt_operator.core.conditions import Said, Type, moved, said
from opt_operator.core.serving import names
from opt_operator.core.serving.builders.gateway import PORT
from opt_operator.core.serving.case import Case, Update
from opt_operator.core.serving.look import lacking, unreachable
from opt_operator.core.serving.phases import allowed
from opt_operator.core.serving.snapshot import ServeSnapshot
from opt_operator.core.symptoms import POLICY
from opt_operator.core.views import PodView

CALM_S = 10.0
"""Numbers that move by themselves are written this often at most."""
MOVING = ("requests_in_flight",)
WAITING = {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError",
           "CrashLoopBackOff"}  # fmt: skip
"""Why a container does not start that a person has to know of."""


def render(case: Case, update: Update) -> OPTServeStatus:
    """The status after this decision."""
    snapshot, before = case.snapshot, case.status
    after = before.model_copy(update=update)
    phase = phase_of(snapshot, after)
    numbers: dict[str, Any] = {
        "phase": phase if allowed(before.phase, phase) else before.phase,
        "observed_generation": snapshot.resource.metadata.generation if snapshot.resource else None,
        "model_name": case.made.model_name,
        "replicas": len(snapshot.replicas),
        "ready_replicas": _ready(snapshot, after),
        "requests_in_flight": snapshot.demand or 0,
        "selector": ",".join(f"{k}={v}" for k, v in names.labels(snapshot.key.name, "replica").items()),
        "address": f"http://{names.gateway(snapshot.key.name)}.{snapshot.key.namespace}.svc:{PORT}",
    }
    after = after.model_copy(update=numbers)
    after = after.model_copy(update={"conditions": _conditions(case, after)})
    return _calm(snapshot, after)


def refused(snapshot: ServeSnapshot) -> OPTServeStatus:
    """Of a resource that does not hold to its schema: what is served stays served."""
    word = said(holds=True, reason="BadSpec", message="; ".join(snapshot.problems))
    generation = snapshot.resource.metadata.generation if snapshot.resource else 0
    found = moved(snapshot.status.conditions, snapshot.now, generation, {"Degraded": word})
    phase = snapshot.status.phase or "Pending"
    return snapshot.status.model_copy(update={"conditions": found, "phase": phase})


def phase_of(snapshot: ServeSnapshot, status: OPTServeStatus) -> ServePhase:
    """Where it stands."""
    served = status.served
    if served is None:
        return "Failed" if status.rejected else "Pending"
    if status.roll is not None and status.roll.stage == "Back":
        return "RollingBack"
    if status.wanted_replicas == 0:
        return "Asleep"
    if not _ready(snapshot, status):
        return "Loading"
    return "Rolling" if status.candidate is not None else "Serving"


def _ready(snapshot: ServeSnapshot, status: OPTServeStatus) -> int:
    found = {str(c.revision) for c in (status.served, status.candidate) if c is not None}
    if status.roll is not None and status.roll.stage == "Bake":
        found |= {str(c.revision) for c in status.previous[:1]}
    return sum(snapshot.ready(revision) for revision in found)


def _conditions(case: Case, status: OPTServeStatus) -> Conditions:
    snapshot, phase = case.snapshot, status.phase
    up = phase in ("Serving", "Rolling", "RollingBack", "Asleep")
    moving = phase in ("Loading", "Rolling", "RollingBack") or bool(status.gate and status.gate.state == "Running")
    words: dict[Type, Said] = {
        "Ready": said(holds=up, reason=phase or "Pending", message=_told(status)),
        "Progressing": said(holds=moving, reason=_stage(status), message=_told(status)),
        "SourceReady": _source(case, status),
        "GatePassed": _gate(status),
        "Degraded": _degraded(case),
    }
    generation = status.observed_generation or 0
    return moved(snapshot.status.conditions, snapshot.now, generation, words)


def _told(status: OPTServeStatus) -> str:
    served, candidate = status.served, status.candidate
    now = f"step {served.step}, {served.uri}" if served else "nothing is served yet"
    return f"{now}; rolling to step {candidate.step}" if candidate else now


def _stage(status: OPTServeStatus) -> str:
    if status.roll is not None:
        return status.roll.stage
    return "Gate" if status.gate and status.gate.state == "Running" else "Settled"


def _source(case: Case, status: OPTServeStatus) -> Said:
    if problem := unreachable(case):
        return said(holds=False, reason="NoSource", message=problem)
    if status.source and status.source.failures:
        return said(holds=False, reason="LookFailed", message=status.gate.message if status.gate else "")
    if status.served is None and status.gate and status.gate.state == "Done" and status.candidate is None:
        return said(holds=False, reason="NothingToServe", message=status.gate.message)
    return said(holds=True, reason="Found")


def _gate(status: OPTServeStatus) -> Said:
    if status.rejected_message:
        return said(holds=False, reason="Rejected", message=status.rejected_message)
    return said(holds=status.served is not None or None, reason="Passed" if status.served else "NotYet")


def _degraded(case: Case) -> Said:
    snapshot = case.snapshot
    if snapshot.refused:
        return said(holds=True, reason="ApiRefused", message=snapshot.refused)
    if case.spec.engine.name == "vllm" and not case.made.engine_image:
        words = "spec.pods.image: found none, and the operator was given no image of vLLM; name one"
        return said(holds=True, reason="NoImage", message=words)
    if problem := lacking(case):
        return said(holds=True, reason="NoLeaderWorkerSet", message=problem)
    for pod in (*snapshot.gateway_pods, *snapshot.replicas, *(p for p in snapshot.pods if p.role == "gate")):
        if trouble := _trouble(pod):
            return said(holds=True, reason=trouble[0], message=f"pod {pod.metadata.name}: {trouble[1]}")
    return said(holds=False, reason="AsWanted")


def _trouble(pod: PodView) -> tuple[str, str] | None:
    scheduled = pod.condition("PodScheduled")
    if scheduled and scheduled.reason == "Unschedulable":
        return "Unschedulable", scheduled.message or POLICY["Unschedulable"].meaning
    for one in pod.statuses:
        waiting = one.state.waiting
        if waiting and waiting.reason in WAITING:
            return waiting.reason, waiting.message
    return None


def _calm(snapshot: ServeSnapshot, after: OPTServeStatus) -> OPTServeStatus:
    """Keep numbers that move by themselves as they were written, unless it is time or something else changed."""
    if snapshot.status_age_s >= CALM_S:
        return after
    resting = after.model_copy(update={name: getattr(snapshot.status, name) for name in MOVING})
    return snapshot.status if resting == snapshot.status else after
