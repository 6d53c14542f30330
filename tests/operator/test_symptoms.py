"""What is seen of one pod of a gang at work, what it is called, and what follows: the failure policy in action."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import pytest

from opt_api.documents.exit_report import EXIT_CODES
from opt_api.resolve import resolve
from opt_operator.core import names
from opt_operator.core.actions import Create, Decision, Delete, Tell
from opt_operator.core.decide import decide
from opt_operator.core.diagnosis import diagnose
from opt_operator.core.snapshot import Snapshot
from opt_operator.core.views import NodeView, PodView
from support.opmodel.harness import play, snapshot_of
from support.opmodel.scenarios import run_of

pytestmark = pytest.mark.unit

VICTIM = "small-a2-h1"
SPARE = "small-a2-h2"


@cache
def at_work() -> Snapshot:
    return snapshot_of(play(run_of("create")))


def with_pod(name: str, spec: dict[str, Any] | None = None, **status: Any) -> Snapshot:
    """The gang at work, with another word about one pod; a pod that is gone for it is unheard, too."""
    snapshot = at_work()
    old = next(pod for pod in snapshot.pods if pod.metadata.name == name)
    whole = old.model_dump(by_alias=True)
    whole["spec"] |= spec or {}
    whole["status"] |= status
    pods = tuple(PodView.model_validate(whole) if pod is old else pod for pod in snapshot.pods)
    return replace(snapshot, pods=pods, status_age_s=1e9)


def waiting(reason: str) -> dict[str, Any]:
    return {"phase": "Pending", "containerStatuses": [
        {"name": "agent", "state": {"waiting": {"reason": reason, "message": "as it is"}}}]}  # fmt: skip


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    end = {"exitCode": code, "reason": reason, "message": "the last words"}
    return {"phase": "Failed", "containerStatuses": [{"name": "agent", "state": {"terminated": end}}]}


UNSCHEDULABLE = {"phase": "Pending", "containerStatuses": [], "conditions": [
    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/5 nodes"}]}  # fmt: skip
LAST_WORDS = "ValueError: a library is missing"
LOOPING = {"phase": "Running", "initContainerStatuses": [{
    "name": "rendezvous", "restartCount": 7, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "x" * 4000 + LAST_WORDS}}}]}  # fmt: skip
WAITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ImagePull": ({}, waiting("ImagePullBackOff")),
    "BadContainer": ({}, waiting("CreateContainerConfigError")),
    "Unschedulable": ({"nodeName": ""}, UNSCHEDULABLE),
    "CrashLoop": ({}, LOOPING),
}


@pytest.mark.parametrize("symptom", WAITS)
def test_what_waits_is_said_and_restarts_nothing(symptom: str) -> None:
    spec, status = WAITS[symptom]
    decision = decide(with_pod(SPARE, spec, **status))
    assert not [action for action in decision.actions if isinstance(action, Create | Delete)]
    assert decision.status is not None
    degraded = next(c for c in decision.status.conditions if c.type == "Degraded")
    assert (degraded.status, degraded.reason) == ("True", symptom)
    assert SPARE in degraded.message


def test_a_container_that_ends_each_time_is_told_with_its_last_words() -> None:
    snapshot = with_pod(SPARE, **LOOPING)
    found = diagnose(snapshot, next(pod for pod in snapshot.pods if pod.metadata.name == SPARE))
    assert found.words.startswith(
        f"pod {SPARE}: container rendezvous was started again 7 times, and ended with code 1: x"
    )
    assert found.words.endswith(LAST_WORDS)
    assert len(found.words) < 900


def test_a_pod_ended_as_its_container_did_and_not_as_the_sidecar_after_it() -> None:
    code = EXIT_CODES["StoreUnavailable"]
    sidecar = {"name": "rendezvous", "state": {"terminated": {"exitCode": 137, "reason": "Error", "message": "killed"}}}
    snapshot = with_pod(VICTIM, **ended(code), initContainerStatuses=[sidecar])
    found = diagnose(snapshot, next(pod for pod in snapshot.pods if pod.metadata.name == VICTIM))
    assert (found.symptom, found.words) == ("Evicted", f"pod {VICTIM} ended with code {code}: the last words")


EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "low on memory", "containerStatuses": []}
TAKEN = {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]}
REPLACED: dict[str, tuple[str, dict[str, Any], int]] = {
    "killed for its memory": ("OutOfMemory", ended(137, "OOMKilled"), 1),
    "an error of its own": ("Crashed", ended(1), 1),
    "evicted by the kubelet": ("Evicted", EVICTED, 0),
    "evicted by the API": ("Evicted", {**ended(143), **TAKEN}, 0),
    "the store was away": ("Evicted", ended(EXIT_CODES["StoreUnavailable"]), 0),
}


@pytest.mark.parametrize("name", REPLACED)
def test_what_ended_is_replaced_and_only_its_own_faults_are_counted(name: str) -> None:
    symptom, status, counted = REPLACED[name]
    snapshot = with_pod(VICTIM, **status)
    pod = next(pod for pod in snapshot.pods if pod.metadata.name == VICTIM)
    assert diagnose(snapshot, pod).symptom == symptom
    decision = decide(snapshot)
    assert decision.status is not None
    assert decision.status.intent is not None
    assert (decision.status.intent.rung, decision.status.intent.reason) == ("Swap", symptom)
    assert decision.status.pod_attempt == at_work().status.pod_attempt + 1
    assert len(decision.status.pod_failures) == counted
    assert not [action for action in decision.actions if isinstance(action, Create | Delete)]  # written down first


@pytest.mark.parametrize(("cause", "symptom"), [("BadSpec", "BadSpec"), ("BadData", "BadData")])
def test_what_would_fail_again_pauses(cause: Any, symptom: str) -> None:
    decision = decide(with_pod(VICTIM, **ended(EXIT_CODES[cause])))
    assert decision.status is not None
    assert decision.status.phase == "Paused"
    assert next(c for c in decision.status.conditions if c.type == "Degraded").reason == symptom


def going(seconds: int, name: str = VICTIM) -> Snapshot:
    """The pod's grace period ended so many seconds ago."""
    snapshot = at_work()
    old = next(pod for pod in snapshot.pods if pod.metadata.name == name)
    meta = old.metadata.model_copy(update={"deletion_timestamp": snapshot.now - timedelta(seconds=seconds)})
    pods = tuple(pod.model_copy(update={"metadata": meta}) if pod is old else pod for pod in snapshot.pods)
    return replace(snapshot, pods=pods)


def deleted_at_once(decision: Decision) -> list[str]:
    return [one.name for one in decision.actions if isinstance(one, Delete) and one.grace_s == 0]


def test_a_pod_that_does_not_go_is_taken_out_of_the_api() -> None:
    assert deleted_at_once(decide(going(10))) == []
    assert deleted_at_once(decide(going(31))) == [VICTIM]


def test_a_spare_whose_pod_goes_is_not_counted_on_and_a_host_at_work_is_the_coordinators_to_replace() -> None:
    told = [action for action in decide(going(-4, SPARE)).actions if isinstance(action, Tell)]
    assert [(one.path, one.body["host"]) for one in told] == [("/dismiss", SPARE)]
    assert not [action for action in decide(going(-4)).actions if isinstance(action, Tell)]


def test_a_training_that_cannot_be_read_says_which_field() -> None:
    snapshot = replace(at_work(), training=None, plan=None, problems=("spec.model.layers: must be at least 1",))
    decision = decide(snapshot)
    assert decision.status is not None
    degraded = next(c for c in decision.status.conditions if c.type == "Degraded")
    assert "spec.model.layers" in degraded.message
    assert not [action for action in decision.actions if isinstance(action, Create | Delete)]


def suspected(gone: str = "", silent_s: float = 0.0) -> Snapshot:
    """The spare's machine is suspected: by its own fault, or because nothing was heard of it."""
    snapshot = at_work()
    assert snapshot.report is not None
    update = {"state": "Suspect", "gone": gone, "silent_seconds": silent_s}
    agents = tuple(a.model_copy(update=update) if a.host == SPARE else a for a in snapshot.report.agents)
    return replace(snapshot, report=snapshot.report.model_copy(update={"agents": agents}))


@pytest.mark.parametrize(
    ("snapshot", "symptom"),
    [
        (suspected(), "HostSuspect"),
        (suspected("its agent is silent", 10), "Starting"),
        (suspected("its agent is silent", 61), "HostSuspect"),
    ],
    ids=["at fault", "silent for a moment", "silent for good"],
)
def test_a_suspected_host_gets_a_new_agent(snapshot: Snapshot, symptom: str) -> None:
    """Nothing else brings it back: its coordinator takes it again only when a new agent has proved the machine."""
    pod = next(pod for pod in snapshot.pods if pod.metadata.name == SPARE)
    assert diagnose(snapshot, pod).symptom == symptom
    decision = decide(snapshot)
    assert decision.status is not None
    assert (decision.status.intent is not None) == (symptom == "HostSuspect")
    assert not [action for action in decision.actions if isinstance(action, Create | Delete)]  # written down first


def test_a_coordinator_out_of_reach_is_replaced_on_another_node_and_nobody_else_is_touched() -> None:
    snapshot = at_work()
    leader = snapshot.coordinator
    assert leader is not None
    seen = replace(snapshot, unreached_s=3.2, status_age_s=1e9)
    found = diagnose(seen, leader)
    assert (found.symptom, found.policy.cause, found.policy.counted) == ("Unreached", "CoordinatorLost", False)
    assert f"on node {leader.spec.node_name} any more; it was heard 3 s ago" in found.words
    written = decide(seen)
    assert written.status is not None
    assert written.status.intent is not None
    made = decide(replace(seen, status=written.status))
    (create,) = [action for action in made.actions if isinstance(action, Create)]
    assert create.document["metadata"]["labels"]["opt-operator.io/role"] == "coordinator"
    required = create.document["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    kept_off = required["nodeSelectorTerms"][0]["matchExpressions"][0]
    assert (kept_off["operator"], kept_off["values"]) == ("NotIn", [leader.spec.node_name])
    (gone,) = [action for action in made.actions if isinstance(action, Delete)]
    assert (gone.name, gone.grace_s) == (leader.metadata.name, 0)


def exposed(*, seconds: float = 61, made_in: str = "0", section: str = "step", free: bool = True) -> Snapshot:
    """The coordinator on the node of a gang's host; of the other nodes only the spare's takes pods, or none does."""
    snapshot = at_work()
    leader, report, nodes = snapshot.coordinator, snapshot.report, dict(snapshot.nodes or {})
    assert leader is not None
    assert report is not None
    taken = {pod.metadata.name: pod.spec.node_name for pod in snapshot.hosts}
    meta = leader.metadata.model_copy(update={
        "creation_timestamp": snapshot.now - timedelta(seconds=seconds),
        "annotations": {**leader.metadata.annotations, names.MADE_IN: made_in},
    })  # fmt: skip
    spec = leader.spec.model_copy(update={"node_name": taken[VICTIM]})
    moved = leader.model_copy(update={"metadata": meta, "spec": spec})
    workers = tuple(worker.model_copy(update={"section": section}) for worker in report.workers)
    full = {"conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]}
    for name in set(nodes) - {taken[host] for host in report.gang} - ({taken[SPARE]} if free else set()):
        nodes[name] = NodeView.model_validate({**nodes[name].model_dump(by_alias=True), "status": full})
    return replace(
        snapshot, nodes=nodes, report=report.model_copy(update={"workers": workers}), status_age_s=1e9,
        pods=tuple(moved if pod is leader else pod for pod in snapshot.pods),
    )  # fmt: skip


def test_a_coordinator_on_a_gang_hosts_node_is_moved_while_all_is_well() -> None:
    seen = exposed()
    written = decide(seen)
    assert written.status is not None
    assert written.status.intent is not None
    assert (written.status.phase, written.status.intent.reason) == ("Running", "Exposed")
    assert not [action for action in written.actions if isinstance(action, Create | Delete)]  # written down first
    made = decide(replace(seen, status=written.status))
    (create,) = [action for action in made.actions if isinstance(action, Create)]
    meta = create.document["metadata"]
    assert meta["labels"]["opt-operator.io/role"] == "coordinator"
    assert seen.report is not None
    assert meta["annotations"][names.MADE_IN] == str(seen.report.attempt)
    assert not written.status.pod_failures


@pytest.mark.parametrize(
    "snapshot",
    [exposed(seconds=59), exposed(made_in="1"), exposed(section="load"), exposed(free=False)],
    ids=["just made", "moved for this gang before", "its gang is loading", "no other node"],
)
def test_a_coordinator_stays_where_moving_it_would_not_help(snapshot: Snapshot) -> None:
    assert snapshot.report is not None
    assert snapshot.report.attempt == 1
    decision = decide(snapshot)
    assert decision.status is not None
    assert decision.status.intent is None
    assert not [action for action in decision.actions if isinstance(action, Create | Delete)]


@pytest.mark.parametrize("phase", ["Running", "Pending"])
def test_a_coordinator_with_old_limits_is_made_anew_even_before_it_runs(phase: str) -> None:
    """Its image may be what cannot be had, and the new spec what mends that."""
    snapshot = at_work()
    assert snapshot.plan is not None
    assert snapshot.training is not None
    budget = snapshot.training.spec.resilience.budget.model_copy(update={"failures": 3})
    resilience = snapshot.training.spec.resilience.model_copy(update={"budget": budget})
    spec = snapshot.training.spec.model_copy(update={"resilience": resilience})
    training = snapshot.training.model_copy(update={"spec": spec})
    plan = resolve(training)
    status = snapshot.status.model_copy(update={"plan_digest": plan.digest()})
    leader = snapshot.coordinator
    assert leader is not None
    early = leader.model_copy(update={"status": leader.status.model_copy(update={"phase": phase})})
    pods = tuple(early if pod is leader else pod for pod in snapshot.pods)
    changed = replace(snapshot, training=training, plan=plan, status=status, pods=pods, status_age_s=1e9)
    written = decide(changed)
    assert written.status is not None
    assert written.status.intent is not None
    assert written.status.intent.reason == "Outdated"


def test_a_pause_says_why_in_the_status() -> None:
    snapshot = at_work()
    assert snapshot.report is not None
    words = "the same failure at step 30 for the 3rd time"
    stopped = {"phase": "paused", "paused_for": "CrashLoop", "paused_words": words, "workers": ()}
    decision = decide(replace(snapshot, report=snapshot.report.model_copy(update=stopped), status_age_s=1e9))
    assert decision.status is not None
    ready = next(condition for condition in decision.status.conditions if condition.type == "Ready")
    assert (decision.status.phase, ready.reason) == ("Paused", "CrashLoop")
    assert ready.message == f"{words}; see `optctl logbook`"
