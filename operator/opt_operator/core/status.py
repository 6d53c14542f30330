"""The status: what the verdict says, what the coordinator reports, what the pods are. Written once, last."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from opt_api.conditions import Conditions
from opt_api.training.status import CheckpointStatus, HostStatus, Nodes, OPTTrainingStatus, Phase
from opt_operator.core import names
from opt_operator.core.conditions import Said, Type, moved, said
from opt_operator.core.diagnosis import diagnose
from opt_operator.core.phases import TERMINAL, allowed
from opt_operator.core.rules.verdict import Verdict
from opt_operator.core.snapshot import Snapshot
from opt_operator.core.views import CoordinatorReport

PROGRESS = ("step", "loss", "tokens_per_second", "eta_seconds", "ettr", "checkpoint")
FRESH_INTERVALS = 3
FRESH_AT_LEAST_S = 600.0
MAX_HOSTS = 128
SILENT_S = 5.0
MOVING: frozenset[Phase] = frozenset({"Preparing", "Queued", "Starting", "Running", "Recovering", "Evaluating"})
UP: frozenset[Phase] = frozenset({"Running", "Evaluating", "Succeeded"})


def render(snapshot: Snapshot, verdict: Verdict) -> OPTTrainingStatus:
    """The status after this decision."""
    before = snapshot.status
    phase = verdict.phase if allowed(before.phase, verdict.phase) else before.phase
    assert phase is not None
    fields: dict[str, Any] = {**_progress(snapshot), **dict(verdict.update), "phase": phase}
    if snapshot.resource is not None:
        fields["observed_generation"] = snapshot.resource.metadata.generation
    if before.start_time is None and phase != "Pending":
        fields["start_time"] = snapshot.now
    if _newly_verified(snapshot):
        fields.setdefault("pod_failures", ())
    fields["conditions"] = _conditions(snapshot, verdict, phase, fields)
    after = before.model_copy(update=fields)
    return _calm(snapshot, after)


def _progress(snapshot: Snapshot) -> dict[str, Any]:
    if snapshot.training is None or snapshot.status.phase in TERMINAL:
        return {}
    wanted = snapshot.training.spec.parallelism.hosts
    if snapshot.training.spec.until == "Data":
        return {}
    report = snapshot.report
    if report is None:
        return {"nodes": _nodes(_unheard(snapshot, wanted), wanted)}
    return {"nodes": _nodes(_ready(report, wanted), wanted), **_reported(snapshot, report, wanted)}


def _unheard(snapshot: Snapshot, wanted: int) -> int:
    """Without a word of the coordinator: as many as it said last, but no more than there are pods without fault."""
    running = [pod for pod in snapshot.hosts if pod.status.phase == "Running"]
    alive = [pod for pod in running if diagnose(snapshot, pod).policy.cause is None]
    last = snapshot.status.nodes.ready if snapshot.status.nodes else 0
    return min(len(alive), last, wanted)


def _nodes(ready: int, wanted: int) -> Nodes:
    return Nodes(summary=f"{ready}/{wanted}", ready=ready, wanted=wanted)


def _ready(report: CoordinatorReport, wanted: int) -> int:
    """Hosts of the gang that are there, or, without a gang, hosts that may be in it."""
    there = [agent for agent in report.agents if not agent.gone]
    good = [agent for agent in there if agent.state in ("Spare", "InUse")]
    gang = [agent for agent in there if agent.host in report.gang and agent.silent_seconds < SILENT_S]
    return min(len(gang) if report.phase == "running" else len(good), wanted)


def _spares(report: CoordinatorReport, wanted: int) -> int:
    """Checked hosts beyond the gang; where no gang runs, beyond what the next one takes."""
    idle = sum(a.state == "Spare" and not a.gone and a.host not in report.gang for a in report.agents)
    return idle if report.phase == "running" else max(idle - wanted, 0)


def _reported(snapshot: Snapshot, report: CoordinatorReport, wanted: int) -> dict[str, Any]:
    verified = report.newest_verified
    speed = report.tokens_per_second
    fields: dict[str, Any] = {
        "attempt": max(report.attempt, snapshot.status.attempt),
        "restarts": max(report.restarts, snapshot.status.restarts),
        "step": report.step,
        "total_steps": report.total_steps,
        "loss": None if report.loss is None else f"{report.loss:.4f}",
        "tokens_per_second": None if speed is None else round(speed),
        "ettr": None if report.ettr is None else f"{100 * report.ettr:.1f}%",
        "spares": _spares(report, wanted),
        "hosts": _hosts(snapshot, report),
    }
    if speed and snapshot.plan and report.total_steps:
        fields["eta_seconds"] = round((report.total_steps - report.step) * snapshot.plan.tokens_per_step / speed)
    if verified is not None:
        fields["checkpoint"] = CheckpointStatus(step=verified.step, time=verified.time, digest=verified.digest)
    return fields


def _hosts(snapshot: Snapshot, report: CoordinatorReport) -> tuple[HostStatus, ...]:
    """Hosts that are not simply in use: those the coordinator refuses first, by its ledger, then those it suspects."""
    refused = [(one.names[-1], one.state, one.hardware, one.reason) for one in report.refused if one.names]
    known = {hardware for _, _, hardware, _ in refused}
    suspect = [(a.host, a.state, a.hardware, a.gone) for a in report.agents if a.state == "Suspect"]
    told = [*refused, *(one for one in suspect if one[2] not in known)]
    found = {
        name: HostStatus.model_validate(
            {"name": name, "state": state, "hardware": hardware[:256], "reason": reason[:1024],
             "node": _seen_on(snapshot, name, hardware)}
        )
        for name, state, hardware, reason in told
    }  # fmt: skip
    return tuple(found.values())[:MAX_HOSTS]


def _seen_on(snapshot: Snapshot, host: str, hardware: str) -> str:
    """The node on which we saw the host's pod ourselves, if that node is that machine; as we wrote it, once it is gone.

    A coordinator is a training's own program: its word alone must not reach a node that the training was never on.
    """
    pod = next((pod for pod in snapshot.hosts if pod.metadata.name == host), None)
    node = (snapshot.nodes or {}).get(pod.spec.node_name) if pod else None
    if node is not None and names.is_on(hardware, node.hardware):
        return node.metadata.name
    return next((h.node for h in snapshot.status.hosts if h.name == host and h.hardware == hardware), "")


def _newly_verified(snapshot: Snapshot) -> bool:
    """A new checkpoint proves progress: what failed before it is forgiven."""
    newest = snapshot.report.newest_verified if snapshot.report else None
    old = snapshot.status.checkpoint
    return newest is not None and (old is None or newest.step > old.step)


def _conditions(snapshot: Snapshot, verdict: Verdict, phase: Phase, fields: dict[str, Any]) -> Conditions:
    words: dict[Type, Said] = {
        "Ready": said(holds=phase in UP, reason=verdict.reason, message=verdict.message),
        "Progressing": said(holds=phase in MOVING, reason=phase, message=verdict.message),
        "Degraded": said(holds=phase in ("Paused", "Failed"), reason=verdict.reason, message=verdict.message),
        "Suspended": said(holds=phase == "Suspended", reason="Suspended" if phase == "Suspended" else "NotSuspended"),
        "DatasetReady": _dataset(snapshot, fields),
        "CheckpointFresh": _fresh(snapshot, phase),
    }
    if phase not in ("Paused", "Failed"):
        words["Degraded"] = said(holds=False, reason="AsWanted")
    words |= dict(verdict.conditions)
    if snapshot.refused:
        words["Degraded"] = said(holds=True, reason="ApiRefused", message=snapshot.refused)
    elif snapshot.problems:
        words["Degraded"] = said(holds=True, reason="BadSpec", message="; ".join(snapshot.problems))
    generation = fields.get("observed_generation", snapshot.status.observed_generation or 0)
    return moved(snapshot.status.conditions, snapshot.now, generation, words)


def _dataset(snapshot: Snapshot, fields: dict[str, Any]) -> Said:
    given = snapshot.training.spec.data.dataset if snapshot.training else None
    made = fields.get("dataset") or snapshot.status.dataset
    if given:
        return said(holds=True, reason="Given", message=str(given))
    return said(holds=bool(made), reason="Prepared" if made else "NotPrepared", message=str(made or ""))


def _fresh(snapshot: Snapshot, phase: Phase) -> Said:
    """Whether the newest Verified checkpoint is as young as the plan wants it."""
    if phase not in ("Running", "Recovering"):
        return said(holds=None, reason="NotRunning")
    newest = snapshot.report.newest_verified if snapshot.report else snapshot.status.checkpoint
    start = newest.time if newest else snapshot.status.start_time or snapshot.now
    limit = timedelta(seconds=_limit_s(snapshot))
    words = f"newest Verified checkpoint: step {newest.step}" if newest else "no Verified checkpoint yet"
    late = snapshot.now - start > limit
    return said(holds=not late, reason="TooOld" if late else "Fresh", message=f"{words}; allowed age {limit}")


def _limit_s(snapshot: Snapshot) -> float:
    plan, report = snapshot.plan, snapshot.report
    if plan is None:
        return FRESH_AT_LEAST_S
    seconds = float(plan.checkpointing.interval_seconds or 0)
    if plan.checkpointing.interval_steps and report and report.tokens_per_second:
        seconds = plan.checkpointing.interval_steps * plan.tokens_per_step / report.tokens_per_second
    return max(FRESH_INTERVALS * seconds, FRESH_AT_LEAST_S)


def _calm(snapshot: Snapshot, after: OPTTrainingStatus) -> OPTTrainingStatus:
    """Keep numbers that only grow as they were written, unless it is time or something else changed."""
    before = snapshot.status
    if snapshot.status_age_s >= snapshot.progress_every_s:
        return after
    old = {name: getattr(before, name) for name in PROGRESS}
    resting = after.model_copy(update=old)
    same = _without_words(resting) == _without_words(before)
    return before if same else after


def _without_words(status: OPTTrainingStatus) -> dict[str, Any]:
    """What is compared: messages may hold numbers that move."""
    document = status.model_dump()
    for condition in document["conditions"]:
        condition.pop("message")
    return document
