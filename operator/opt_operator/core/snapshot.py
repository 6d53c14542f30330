"""Everything one decision is made from, gathered once and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any, Literal

from opt_api.documents.plan import Plan
from opt_api.resources import OPTTraining
from opt_api.training.status import OPTTrainingStatus
from opt_operator.core import names
from opt_operator.core.nodes import NodeVerdict
from opt_operator.core.views import Child, CoordinatorReport, JobView, NodeView, PodView, ResourceView

PROGRESS_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator was started with.

    Attributes:
        trainer_image: For coordinator, hosts and evaluation, where the resource names none.
        dataprep_image: For data preparation, where the resource names none.
        serving_image: For replicas, gates and gateways of served models, where the resource names none.
        vllm_image: For replicas with `engine: vllm`, where the resource names none.
    """

    trainer_image: str
    dataprep_image: str
    serving_image: str = ""
    vllm_image: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """One resource of ours: a training, or a served model."""

    namespace: str
    name: str
    kind: Literal["OPTTraining", "OPTServe"] = "OPTTraining"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Snapshot:
    """One training, its children, its nodes, and what its coordinator said.

    Attributes:
        now: Wall time.
        key: Namespace and name.
        resource: As the API server has it; None once it is gone.
        training: The same, checked; None where it does not hold to its schema.
        problems: Why it does not, or why there is no plan for it.
        status: What we wrote last.
        plan: Of the spec as it is now; None where there are problems.
        pods, jobs, children: What carries our labels.
        nodes: All nodes by name; None where we may not see them.
        report: The coordinator's newest word; None for none, or an old one.
        unreached_s: Seconds since the coordinator was heard, where nothing is at its address any more; else 0.
        apis: API groups that the cluster has.
        status_age_s: Since we last wrote the status.
        refused: What the API server answered to the last try, if it refused.
        progress_every_s: Numbers that only grow are written this often at most.
        known: What was found out about each pod, by identity: a pod is asked about by several rules.
    """

    now: datetime
    key: Key
    settings: Settings
    resource: ResourceView | None = None
    training: OPTTraining | None = None
    problems: tuple[str, ...] = ()
    status: OPTTrainingStatus = field(default_factory=OPTTrainingStatus)
    plan: Plan | None = None
    pods: tuple[PodView, ...] = ()
    jobs: tuple[JobView, ...] = ()
    children: tuple[Child, ...] = ()
    nodes: Mapping[str, NodeView] | None = None
    report: CoordinatorReport | None = None
    unreached_s: float = 0.0
    apis: frozenset[str] = frozenset()
    status_age_s: float = 1e9
    refused: str = ""
    progress_every_s: float = PROGRESS_EVERY_S
    known: dict[int, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def meta_name(self) -> str:
        """Name of the training."""
        return self.key.name

    @cached_property
    def hosts(self) -> tuple[PodView, ...]:
        """Pods of hosts, by slot, oldest attempt first."""
        found = [pod for pod in self.pods if pod.slot >= 0]
        return tuple(sorted(found, key=lambda pod: (pod.slot, pod.metadata.attempt)))

    @cached_property
    def coordinators(self) -> tuple[PodView, ...]:
        """Coordinator pods, newest attempt last."""
        found = [pod for pod in self.pods if pod.role == "coordinator"]
        return tuple(sorted(found, key=lambda pod: pod.metadata.attempt))

    @property
    def coordinator(self) -> PodView | None:
        """The one coordinator pod that counts: that of the newest attempt."""
        return self.coordinators[-1] if self.coordinators else None

    @cached_property
    def verdicts(self) -> Mapping[str, NodeVerdict]:
        """What is to be thought of each node."""
        return {name: node.verdict for name, node in (self.nodes or {}).items()}

    def verdict_of(self, pod: PodView) -> NodeVerdict:
        """What is to be thought of a pod's node; a node that is not there any more is lost."""
        if not pod.spec.node_name or self.nodes is None:
            return NodeVerdict("Good")
        node = self.nodes.get(pod.spec.node_name)
        if node is None:
            return NodeVerdict("Lost", "NodeGone", f"node {pod.spec.node_name} is no longer in the cluster")
        return node.verdict

    def child(self, kind: str, name: str) -> Child | None:
        """A child by kind and name."""
        return next((c for c in self.children if c.kind == kind and c.metadata.name == name), None)

    def plan_of(self, digest: str) -> Plan | None:
        """The plan with that digest: the spec's own, or one kept in a ConfigMap."""
        if self.plan is not None and self.plan.digest() == digest:
            return self.plan
        kept = self.child("ConfigMap", names.plan_map(self.key.name, digest))
        text = (kept.document.get("data") or {}).get(Plan.file_name) if kept else None
        return _read_plan(text) if text else None


@lru_cache(maxsize=1024)
def _read_plan(text: str) -> Plan | None:
    """A ConfigMap edited by hand may hold anything."""
    try:
        return Plan.from_bytes(text.encode())
    except ValueError:
        return None
