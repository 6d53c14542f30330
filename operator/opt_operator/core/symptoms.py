"""What may be wrong with a pod, what it is called, and what is done: the failure policy, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from opt_api.documents.exit_report import EXIT_CODES, RETRYABLE, ExitCause
from opt_api.documents.logbook import Cause

Symptom = Literal[
    "Ready", "Starting", "Unbound", "Gated", "Unschedulable", "ImagePull", "BadContainer", "CrashLoop", "Going",
    "GoingStuck", "Unreached", "Outdated", "Exposed", "NodeLost", "NodeDoubtful", "NodeBad", "NodeLeaving", "Evicted",
    "OutOfMemory", "HostRefused", "HostSuspect", "Crashed", "Left", "BadSpec", "BadData", "Completed",
]  # fmt: skip
Treatment = Literal[
    "keep", "wait", "renew", "replace", "replace-then-delete", "force-delete", "ask-coordinator", "pause"
]


@dataclass(frozen=True, slots=True)
class Policy:
    """What follows from a symptom.

    Attributes:
        treatment: What is done with the pod.
        cause: Word of the logbook for it; None where nothing failed.
        counted: It counts against `resilience.budget`; what the infrastructure does is free.
        degraded: The training is Degraded while it lasts.
        meaning: For people.
    """

    treatment: Treatment
    meaning: str
    cause: Cause | None = None
    counted: bool = False
    degraded: bool = False

    @property
    def fills(self) -> bool:
        """Whether the pod is left where it is, and its place with it."""
        return self.treatment in ("keep", "wait", "ask-coordinator")


POLICY: dict[Symptom, Policy] = {
    "Ready": Policy("keep", "its agent reports to the coordinator"),
    "Starting": Policy("wait", "containers are being started, or the agent has not reported yet"),
    "Unbound": Policy("wait", "the scheduler has not looked at it yet"),
    "Gated": Policy("wait", "a queue holds it back (scheduling gates)"),
    "Unschedulable": Policy("wait", "no node has room; the whole gang waits and nothing is restarted", degraded=True),
    "ImagePull": Policy("wait", "its image cannot be pulled; making it anew would not help", degraded=True),
    "BadContainer": Policy("wait", "the kubelet cannot make its container: a Secret, ConfigMap or claim is missing",
                           degraded=True),
    "CrashLoop": Policy("wait", "a container that is started again by the kubelet ends each time", degraded=True),
    "Going": Policy("replace", "somebody deleted, evicted or preempted it; its successor has another name",
                    "HostDrained"),
    "GoingStuck": Policy("force-delete", "it should have been gone by now; taken out of the API", "HostLost"),
    "Unreached": Policy("replace", "a coordinator at whose address nothing is any more; a second one does no harm",
                        "CoordinatorLost"),
    "Outdated": Policy("renew", "a coordinator started with limits or intervals that are no longer the spec's"),
    "Exposed": Policy("renew", "a coordinator on the node of a gang's host, while another node is free"),
    "NodeLost": Policy("replace", "its node is not heard of, and neither is its agent", "HostLost"),
    "NodeDoubtful": Policy("ask-coordinator", "its node is not heard of; one source is not enough to call it lost",
                           degraded=True),
    "NodeBad": Policy("replace-then-delete", "its node is said to be broken", "HostDrained"),
    "NodeLeaving": Policy("replace-then-delete", "its node is cordoned, drained or taken back soon", "HostDrained"),
    "Evicted": Policy("replace", "the kubelet or the scheduler evicted it", "HostDrained"),
    "OutOfMemory": Policy("replace", "the kernel killed it for its memory", "OutOfMemory", counted=True),
    "HostRefused": Policy("replace", "the coordinator sent it away: its machine is quarantined", "HostDrained"),
    "HostSuspect": Policy("replace-then-delete", "the coordinator suspects its machine, which a new agent has to prove",
                          "HostDrained"),
    "Crashed": Policy("replace", "it ended by itself with an error", "WorkerExit", counted=True),
    "BadSpec": Policy("pause", "it says that the spec cannot work; the same again would fail again", "BadSpec",
                      counted=True),
    "BadData": Policy("pause", "it says that the data is damaged; the same again would fail again", "DataCorrupt",
                      counted=True),
    "Left": Policy("wait", "its agent was sent away a moment ago; the coordinator has not said why yet"),
    "Completed": Policy("keep", "the training is complete and it went"),
}  # fmt: skip

SYMPTOMS: tuple[Symptom, ...] = get_args(Symptom)

BY_EXIT: dict[ExitCause, Symptom] = {
    "Completed": "Completed",
    "Internal": "Crashed",
    "BadSpec": "BadSpec",
    "BadData": "BadData",
    "BadCheckpoint": "Crashed",
    "StoreUnavailable": "Evicted",
    "BadHost": "Evicted",
    "OutOfMemory": "OutOfMemory",
    "Diverged": "Crashed",
    "LostPeer": "Evicted",
    "Stopped": "Evicted",
}
"""What a program's own word means for its pod; `Evicted` where the world was at fault and a new pod may do."""

_BY_CODE: dict[int, ExitCause] = {code: cause for cause, code in EXIT_CODES.items()}
REPLACED = 3
"""Exit code of a coordinator that found another one in its place."""
SIGTERM = 143


def by_exit_code(code: int) -> Symptom:
    """What an exit code means: ours, or a signal's; any other is a crash."""
    if code == REPLACED:
        return "Evicted"
    if code in _BY_CODE:
        return BY_EXIT[_BY_CODE[code]]
    return "Evicted" if code == SIGTERM else "Crashed"


def may_help_again(code: int) -> bool:
    """Whether running the same once more can help."""
    cause = _BY_CODE.get(code)
    return cause is None or RETRYABLE[cause]
