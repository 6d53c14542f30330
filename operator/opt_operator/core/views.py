"""Narrow views of Kubernetes objects: the fields we decide on and no others. Unknown fields pass by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from opt_operator.core import names
from opt_operator.core.nodes import NodeVerdict, judge_node

NOTHING: set[str] = set()
UNSAID = ("apiVersion", "kind")
"""What an API server's watch says of an object and its list does not: nothing that is decided may depend on it."""


class View(BaseModel):
    """Base of all views: what the API server sends, read leniently."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    def model_post_init(self, context: Any, /) -> None:
        """Nobody asks which fields were given: one empty set for all instead of one each, a third of their size."""
        object.__setattr__(self, "__pydantic_fields_set__", NOTHING)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, which does not take over what was worked out of the original."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied


class Owner(View):
    """One owner reference."""

    uid: str = ""
    kind: str = ""
    name: str = ""
    controller: bool = False


class Meta(View):
    """Metadata."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: tuple[Owner, ...] = ()
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    """When the grace period ends; set as soon as deletion is asked for."""

    @cached_property
    def attempt(self) -> int:
        """Number in the name; 0 for a label that is not one (edited by hand)."""
        found = self.labels.get(names.ATTEMPT, "")
        return int(found) if found.isdecimal() else 0


class ObjectCondition(View):
    """A condition of a pod, Job or node."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class Waiting(View):
    """Why a container does not run yet."""

    reason: str = ""
    message: str = ""


class Terminated(View):
    """How a container ended."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""
    finished_at: datetime | None = None


class ContainerState(View):
    """One of three."""

    waiting: Waiting | None = None
    running: dict[str, Any] | None = None
    terminated: Terminated | None = None


class ContainerStatus(View):
    """One container."""

    name: str
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()
    """Before it was started again."""

    @property
    def last_end(self) -> Terminated | None:
        """How it ended, the last time that it did."""
        return self.state.terminated or self.last_state.terminated


class PodStatus(View):
    """What the kubelet and the scheduler say of a pod."""

    phase: Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"] = "Pending"
    reason: str = ""
    message: str = ""
    pod_ip: str = Field("", alias="podIP")
    conditions: tuple[ObjectCondition, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class PodSpec(View):
    """What of a pod's spec matters after it was made."""

    node_name: str = ""
    scheduling_gates: tuple[dict[str, Any], ...] = ()


class PodView(View):
    """A pod."""

    metadata: Meta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @cached_property
    def slot(self) -> int:
        """Place of a host; -1 for other pods."""
        found = self.metadata.labels.get(names.SLOT, "")
        return int(found) if found.isdecimal() else -1

    @cached_property
    def role(self) -> str:
        """Role label."""
        return self.metadata.labels.get(names.ROLE, "")

    @property
    def ended(self) -> bool:
        """No container of it will run again."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def going(self) -> bool:
        """Somebody asked for its deletion."""
        return self.metadata.deletion_timestamp is not None

    def condition(self, kind: str) -> ObjectCondition | None:
        """Condition of that type."""
        return next((c for c in self.status.conditions if c.type == kind), None)

    @property
    def statuses(self) -> tuple[ContainerStatus, ...]:
        """All containers, init containers first."""
        return (*self.status.init_container_statuses, *self.status.container_statuses)

    @property
    def end(self) -> Terminated | None:
        """How it ended: the first container that failed, else the first that ended.

        What runs beside a container (a sidecar is an init container) ends after it, and because of it: asked last.
        """
        asked = (*self.status.container_statuses, *self.status.init_container_statuses)
        ends = [status.state.terminated for status in asked if status.state.terminated]
        return next((end for end in ends if end.exit_code), next(iter(ends), None))


class JobSpec(View):
    """What of a Job's spec matters after it was made."""

    suspend: bool = False
    completions: int | None = None


class JobStatus(View):
    """What the Job controller says."""

    conditions: tuple[ObjectCondition, ...] = ()
    active: int = 0
    succeeded: int = 0
    failed: int = 0


class JobView(View):
    """A Job."""

    metadata: Meta
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()

    def condition(self, kind: str) -> ObjectCondition | None:
        """Condition of that type if it holds."""
        return next((c for c in self.status.conditions if c.type == kind and c.status == "True"), None)


class DeploymentSpec(View):
    """What of a Deployment's spec matters after it was made."""

    replicas: int = 1


class DeploymentStatus(View):
    """What the Deployment controller says."""

    replicas: int = 0
    ready_replicas: int = 0
    conditions: tuple[ObjectCondition, ...] = ()


class DeploymentView(View):
    """A Deployment."""

    kind: Literal["Deployment", "LeaderWorkerSet"] = "Deployment"
    metadata: Meta
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class LeaderWorkerSetView(DeploymentView):
    """A LeaderWorkerSet: as many groups of pods as a Deployment has pods."""

    kind: Literal["Deployment", "LeaderWorkerSet"] = "LeaderWorkerSet"


class Taint(View):
    """A node's taint."""

    key: str
    value: str = ""
    effect: str = ""


class NodeSpec(View):
    """Spec of a node."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    provider_id: str = Field("", alias="providerID")


class NodeInfo(View):
    """What the kubelet says of its machine."""

    system_uuid: str = Field("", alias="systemUUID")
    machine_id: str = Field("", alias="machineID")


class NodeStatus(View):
    """Status of a node."""

    conditions: tuple[ObjectCondition, ...] = ()
    node_info: NodeInfo = NodeInfo()


class NodeView(View):
    """A node."""

    metadata: Meta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def hardware(self) -> str:
        """The machine behind the name: provider id, else the firmware's UUID, else its own id, else the name."""
        info = self.status.node_info
        return self.spec.provider_id or info.system_uuid or info.machine_id or self.metadata.name

    @cached_property
    def verdict(self) -> NodeVerdict:
        """What is to be thought of it; worked out once for each version of the node."""
        return judge_node(self)


class ResourceView(View):
    """One of our resources as it came; spec and status are read by their own models."""

    metadata: Meta
    spec: dict[str, Any] = Field(default_factory=dict)
    status: dict[str, Any] = Field(default_factory=dict)

    @cached_property
    def known(self) -> dict[str, Any]:
        """What was worked out of this version of it, by name; for whoever works it out."""
        return {}


class Child(View):
    """Any other child: the whole document is kept, to compare it with what is wanted.

    As text, with which a view is less than half as large: five of each training are held.
    """

    metadata: Meta
    kind: str
    text: bytes

    @property
    def document(self) -> dict[str, Any]:
        """What it says."""
        found: dict[str, Any] = json.loads(self.text)
        return found


class Agent(View):
    """One host as the coordinator knows it."""

    host: str
    hardware: str = ""
    state: str | None = None
    silent_seconds: float = 0.0
    gone: str = ""


class Worker(View):
    """One rank as the coordinator knows it."""

    rank: int
    host: str = ""
    section: str = ""
    step: int = 0
    ended: bool = False


class Refused(View):
    """A machine that may not join, by the coordinator's ledger."""

    hardware: str
    names: tuple[str, ...] = ()
    state: Literal["Quarantined", "Retired"] = "Quarantined"
    reason: str = ""


class NewestCheckpoint(View):
    """The newest Verified checkpoint as the coordinator knows it."""

    step: int
    time: datetime
    digest: str


class CoordinatorReport(View):
    """The coordinator's status document."""

    run: str = ""
    phase: Literal["none", "running", "paused", "completed"] = "none"
    paused_for: str | None = None
    paused_words: str = ""
    attempt: int = 0
    restarts: int = 0
    steps_lost: int | None = None
    step: int = 0
    total_steps: int | None = None
    loss: float | None = None
    tokens_per_second: float | None = None
    workers: tuple[Worker, ...] = ()
    agents: tuple[Agent, ...] = ()
    refused: tuple[Refused, ...] = ()
    newest_verified: NewestCheckpoint | None = None
    suspend: bool = False
    values: dict[str, Any] = Field(default_factory=dict)
    goodput: dict[str, float] = Field(default_factory=dict)
    ettr: float | None = None

    @cached_property
    def by_host(self) -> Mapping[str, Agent]:
        """Agents by their hosts."""
        return {agent.host: agent for agent in reversed(self.agents)}

    def agent(self, host: str) -> Agent | None:
        """What it knows of a host."""
        return self.by_host.get(host)

    @cached_property
    def gang(self) -> frozenset[str]:
        """Hosts of the attempt."""
        return frozenset(worker.host for worker in self.workers)
