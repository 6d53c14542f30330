"""From what is seen of a pod to one symptom, with the words that prove it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from opt_operator.core.snapshot import Snapshot
from opt_operator.core.symptoms import POLICY, Policy, Symptom, by_exit_code
from opt_operator.core.views import ContainerStatus, PodView, Terminated, Waiting

STUCK_AFTER = timedelta(seconds=30)
"""So long after its grace period a pod that is still there is taken out of the API."""
STUCK_ON_LOST_NODE_AFTER = timedelta(seconds=1)
FAREWELL = timedelta(seconds=10)
"""A host that left may have left because all is done; so long the coordinator gets to say so."""
PATIENCE_S = 60.0
"""An agent may come back from a silence; after this long on a node that answers it stands still."""
SILENT_S = 2.0
"""An agent that the coordinator has not heard for so long is the second source against its node."""
_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_MAKE = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_LOOP = "CrashLoopBackOff"
_EVICTED = ("Evicted", "Preempting", "NodeLost", "NodeShutdown", "Terminated", "NodeAffinity", "OutOfcpu",
            "OutOfmemory", "UnexpectedAdmissionError", "Shutdown")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One pod and what is the matter with it."""

    pod: PodView
    symptom: Symptom
    words: str = ""

    @property
    def policy(self) -> Policy:
        """What is done about it."""
        return POLICY[self.symptom]

    @property
    def name(self) -> str:
        """Name of the pod."""
        return self.pod.metadata.name

    @property
    def attempt(self) -> int:
        """Number in its name."""
        return self.pod.metadata.attempt


def diagnose(snapshot: Snapshot, pod: PodView) -> Finding:
    """The symptom of one pod: that it is going weighs most, then that it ended, then its node, then itself."""
    known: Finding | None = snapshot.known.get(id(pod))
    if known is None:
        looks = (_going, _ended, _node, _pending)
        known = next((found for look in looks if (found := look(snapshot, pod))), None) or _running(snapshot, pod)
        snapshot.known[id(pod)] = known  # the finding holds the pod, so that nobody else gets its identity
    return known


def findings(snapshot: Snapshot, pods: tuple[PodView, ...]) -> tuple[Finding, ...]:
    """All of them, in order."""
    return tuple(diagnose(snapshot, pod) for pod in pods)


def _going(snapshot: Snapshot, pod: PodView) -> Finding | None:
    ends = pod.metadata.deletion_timestamp
    if ends is None:
        return None
    lost = snapshot.verdict_of(pod).state == "Lost"
    if snapshot.now >= ends + (STUCK_ON_LOST_NODE_AFTER if lost else STUCK_AFTER):
        where = f"on lost node {pod.spec.node_name}" if lost else f"on node {pod.spec.node_name}, which answers"
        return Finding(pod, "GoingStuck", f"pod {pod.metadata.name} is still Terminating {where}")
    return Finding(pod, "Going", f"pod {pod.metadata.name} is being deleted")


def _ended(snapshot: Snapshot, pod: PodView) -> Finding | None:
    if not pod.ended:
        return None
    end, name = pod.end, pod.metadata.name
    if pod.status.phase == "Succeeded":
        if pod.slot < 0 or (snapshot.report is not None and snapshot.report.phase == "completed"):
            return Finding(pod, "Completed", f"pod {name} has done its work")
        left = end.finished_at if end else None
        if snapshot.report is None or left is None or snapshot.now - left < FAREWELL:
            return Finding(pod, "Left", f"pod {name} was sent away; whether the training is complete is not known yet")
        return Finding(pod, "HostRefused", f"pod {name} left because the coordinator said so")
    disruption = pod.condition("DisruptionTarget")
    if pod.status.reason in _EVICTED or (disruption and disruption.status == "True"):
        why = pod.status.reason or (disruption.reason if disruption else "")
        return Finding(pod, "Evicted", f"pod {name}: {why}: {pod.status.message}".rstrip(": "))
    if end is None:
        return Finding(pod, "Evicted", f"pod {name} failed without a word of its containers: {pod.status.message}")
    if end.reason == "OOMKilled":
        return Finding(pod, "OutOfMemory", f"pod {name} was killed for its memory (exit code {end.exit_code})")
    words = f"pod {name} ended with code {end.exit_code}: {end.message or end.reason}"[:900]
    return Finding(pod, by_exit_code(end.exit_code), words)


def _node(snapshot: Snapshot, pod: PodView) -> Finding | None:
    verdict = snapshot.verdict_of(pod)
    if verdict.state == "Lost":
        second = _second_source(snapshot, pod)
        symptom: Symptom = "NodeLost" if second else "NodeDoubtful"
        return Finding(pod, symptom, f"{verdict.words}; {second or 'no second source says so'}")
    if verdict.state == "Bad":
        return Finding(pod, "NodeBad", verdict.words)
    return Finding(pod, "NodeLeaving", verdict.words) if verdict.state == "Leaving" else None


def _second_source(snapshot: Snapshot, pod: PodView) -> str:
    """Who else says that a pod on a lost node is gone; empty for nobody.

    A coordinator that is replaced without need harms nobody, as agents run on without one: one source is enough.
    """
    name = pod.metadata.name
    if pod.slot < 0:
        return "a second coordinator does no harm"
    if not pod.status.container_statuses or pod.status.phase == "Pending":
        return "it had not started"
    if snapshot.report is None:
        return ""
    agent = snapshot.report.agent(name)
    if agent is None and snapshot.report.agents:
        return "the coordinator has never heard of its agent"
    if agent is None:
        return ""
    if agent.gone:
        return f"the coordinator says: {agent.gone}"
    if agent.silent_seconds > SILENT_S:
        return f"the coordinator has not heard its agent for {agent.silent_seconds:.0f} s"
    return ""


def _pending(snapshot: Snapshot, pod: PodView) -> Finding | None:
    name = pod.metadata.name
    if pod.spec.scheduling_gates:
        gates = ", ".join(gate.get("name", "") for gate in pod.spec.scheduling_gates)
        return Finding(pod, "Gated", f"pod {name} waits for {gates}")
    waits = [status.state.waiting for status in pod.statuses if status.state.waiting]
    for reasons, symptom in ((_PULL, "ImagePull"), (_MAKE, "BadContainer")):
        wait = next((w for w in waits if w.reason in reasons), None)
        if wait:
            return Finding(pod, symptom, _waits(name, wait))  # type: ignore[arg-type]  # the table's own words
    loops = next((s for s in pod.statuses if s.state.waiting and s.state.waiting.reason == _LOOP), None)
    if loops:
        return Finding(pod, "CrashLoop", _loops(name, loops))
    if pod.spec.node_name:
        return None
    scheduled = pod.condition("PodScheduled")
    if scheduled and scheduled.status == "False" and scheduled.reason == "Unschedulable":
        return Finding(pod, "Unschedulable", f"pod {name}: {scheduled.message}"[:900])
    return Finding(pod, "Unbound", f"pod {name} has no node yet")


def _waits(name: str, wait: Waiting) -> str:
    return f"pod {name}: {wait.reason}: {wait.message}"[:900]


def _loops(name: str, status: ContainerStatus) -> str:
    """The end of what a container said last: a fault stands there, and what led to it before."""
    last = status.last_end or Terminated()
    times = f"pod {name}: container {status.name} was started again {status.restart_count} times"
    said = (last.message or last.reason).strip()
    return f"{times}, and ended with code {last.exit_code}: {said[-600:]}".rstrip(": ")


def _running(snapshot: Snapshot, pod: PodView) -> Finding:
    name = pod.metadata.name
    if pod.slot < 0:
        return _coordinator(snapshot, pod)
    agent = snapshot.report.agent(name) if snapshot.report else None
    in_gang = snapshot.report is not None and name in snapshot.report.gang
    if agent is not None and (agent.state in ("Spare", "InUse") or (in_gang and not agent.gone)):
        return Finding(pod, "Ready", f"the coordinator has it as {agent.state}")
    if agent is not None and agent.state == "Suspect" and (not agent.gone or agent.silent_seconds > PATIENCE_S):
        return Finding(pod, "HostSuspect", f"the coordinator suspects host {name}: {agent.gone or 'see the logbook'}")
    return Finding(pod, "Starting", f"pod {name} is {pod.status.phase}; its agent has not passed its checks yet")


def _coordinator(snapshot: Snapshot, pod: PodView) -> Finding:
    """The control plane takes most of a minute to notice that a node is gone; its gang is without a coordinator then.

    Agents run on while one is replaced, so that a doubt is enough; the address of one that was never heard proves none.
    """
    name = pod.metadata.name
    if pod is snapshot.coordinator and snapshot.unreached_s:
        words = f"nothing is at the address of pod {name} on node {pod.spec.node_name} any more"
        return Finding(pod, "Unreached", f"{words}; it was heard {snapshot.unreached_s:.0f} s ago")
    ready = pod.status.phase == "Running"
    return Finding(pod, "Ready" if ready else "Starting", f"pod {name} is {pod.status.phase}")
