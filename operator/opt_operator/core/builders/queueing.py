"""How a gang queues for room: Kueue's pod groups, the scheduler's own PodGroup, or Volcano's, whichever there is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from opt_api.documents.plan import Plan
from opt_api.training.spec import QueueSpec
from opt_operator.core import names
from opt_operator.core.actions import Object
from opt_operator.core.builders.common import Parent
from opt_operator.core.views import PodView

System = Literal["none", "kueue", "scheduler", "volcano"]
KUEUE, VOLCANO = "kueue.x-k8s.io", "scheduling.volcano.sh"
SCHEDULER_VERSION, VOLCANO_VERSION = "scheduling.k8s.io/v1beta1", f"{VOLCANO}/v1beta1"
POD_GROUPS = f"podgroups.{SCHEDULER_VERSION}"
"""As `Kube.groups` names a resource that a version of a group may or may not have."""

QUEUE_LABEL, GROUP_LABEL = f"{KUEUE}/queue-name", f"{KUEUE}/pod-group-name"
TOTAL, ROLE_HASH = f"{KUEUE}/pod-group-total-count", f"{KUEUE}/role-hash"
VOLCANO_GROUP = "scheduling.k8s.io/group-name"
COORDINATOR = -1


@dataclass(frozen=True, slots=True)
class Queueing:
    """How the pods of one training queue.

    Attributes:
        system: Who decides when they start.
        total: Pods of the Kueue group: those that are there say so; else coordinator, gang and spares.
    """

    system: System
    queue: str
    priority: str
    total: int


def system_of(spec: QueueSpec, apis: Iterable[str]) -> System:
    """Who is asked for room. A named queue is Kueue's where there is Kueue, else Volcano's."""
    found, gang = frozenset(apis), spec.scheduler_gang == "auto"
    table: tuple[tuple[System, bool], ...] = (
        ("kueue", spec.queue_name is not None and KUEUE in found),
        ("volcano", spec.queue_name is not None and VOLCANO in found),
        ("scheduler", gang and POD_GROUPS in found),
        ("volcano", gang and VOLCANO in found),
    )
    return next((name for name, holds in table if holds), "none")


def queueing_of(spec: QueueSpec, apis: Iterable[str], pods: Iterable[PodView], slots: int) -> Queueing:
    """How a training with so many hosts and spares queues."""
    told = (pod.metadata.annotations.get(TOTAL, "") for pod in pods if not pod.ended and not pod.going)
    total = next((int(text) for text in told if text.isdecimal()), slots + 1)
    return Queueing(system_of(spec, apis), spec.queue_name or "", spec.priority_class or "", total)


def pod_queued(document: Object, name: str, slot: int, how: Queueing) -> Object:
    """The pod, marked for whoever decides when it starts."""
    if how.priority:
        document["spec"]["priorityClassName"] = how.priority
    MARKS[how.system](document, name, slot, how)
    return document


def job_queued(document: Object, how: Queueing) -> Object:
    """The Job, marked. Kueue lets it go when there is room, so it begins suspended."""
    template = document["spec"]["template"]
    if how.priority:
        template["spec"]["priorityClassName"] = how.priority
    if how.system == "kueue":
        document["metadata"]["labels"] |= {QUEUE_LABEL: how.queue}
        document["spec"]["suspend"] = True
    return document


def pod_group(parent: Parent, plan: Plan, how: Queueing) -> Object | None:
    """The PodGroup: the scheduler places the gang whole or not at all. None where nobody wants one."""
    priority = {"priorityClassName": how.priority} if how.priority else {}
    specs: dict[System, tuple[str, Object]] = {
        "scheduler": (
            SCHEDULER_VERSION,
            {"schedulingPolicy": {"gang": {"minCount": plan.layout.hosts}}, **priority},
        ),
        "volcano": (
            VOLCANO_VERSION,
            {"minMember": plan.layout.hosts, **({"queue": how.queue} if how.queue else {}), **priority},
        ),
    }
    if how.system not in specs:
        return None
    version, spec = specs[how.system]
    name = names.hosts_service(parent.name)
    return {"apiVersion": version, "kind": "PodGroup", "metadata": parent.metadata(name), "spec": spec}


def _kueue(document: Object, name: str, slot: int, how: Queueing) -> None:
    """All pods of a training are one group, admitted together; a replaced pod takes the place of the one before.

    A slot beyond the group's size came later, when spares were added, and queues alone.
    """
    meta = document["metadata"]
    inside = slot < how.total - 1
    group = names.hosts_service(name) if inside else f"{names.hosts_service(name)}-{slot}"
    meta["labels"] |= {QUEUE_LABEL: how.queue, GROUP_LABEL: group}
    # pods of one role are alike to Kueue although replaced ones avoid other nodes
    role = "coordinator" if slot == COORDINATOR else "host"
    meta.setdefault("annotations", {}).update({TOTAL: str(how.total if inside else 1), ROLE_HASH: role})


def _scheduler(document: Object, name: str, slot: int, how: Queueing) -> None:
    del how
    if slot != COORDINATOR:
        document["spec"]["schedulingGroup"] = {"podGroupName": names.hosts_service(name)}


def _volcano(document: Object, name: str, slot: int, how: Queueing) -> None:
    del how
    if slot != COORDINATOR:
        document["spec"]["schedulerName"] = "volcano"
        document["metadata"].setdefault("annotations", {})[VOLCANO_GROUP] = names.hosts_service(name)


def _alone(document: Object, name: str, slot: int, how: Queueing) -> None:
    """Nobody is asked: the scheduler takes pod by pod."""
    del document, name, slot, how


MARKS = {"kueue": _kueue, "scheduler": _scheduler, "volcano": _volcano, "none": _alone}
