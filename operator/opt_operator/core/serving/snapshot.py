"""Everything one decision about a served model is made from, gathered once and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from opt_api.resources import OPTServe, OPTTraining
from opt_api.serving.status import OPTServeStatus
from opt_api.storage import StorageSpec
from opt_api.training.status import OPTTrainingStatus
from opt_operator.core.nodes import NodeVerdict, judge_node
from opt_operator.core.serving import names
from opt_operator.core.serving.views import GatewayReport
from opt_operator.core.snapshot import Key, Settings
from opt_operator.core.views import Child, DeploymentView, JobView, NodeView, PodView, ResourceView


@dataclass(frozen=True)
class ServeSnapshot:
    """One served model, its children, what its gateways said, and the training it follows.

    Attributes:
        now: Wall time.
        key: Namespace and name.
        resource: As the API server has it; None once it is gone.
        serve: The same, checked; None where it does not hold to its schema.
        problems: Why it does not.
        status: What we wrote last.
        followed: The training named as its source; None where there is none of that name, or the source is a URI.
        training: The same, checked.
        training_status: What was written of it.
        pods, jobs, deployments, children: What carries our labels; LeaderWorkerSets are among the deployments.
        nodes: All nodes by name; None where we may not see them.
        gateways: The newest word of each gateway by pod, without old ones.
        unreached: Gateways at whose address nothing is any more, while another one was heard.
        apis: API groups that the cluster has.
        status_age_s: Since we last wrote the status.
        refused: What the API server answered to the last try, if it refused.
    """

    now: datetime
    key: Key
    settings: Settings
    resource: ResourceView | None = None
    serve: OPTServe | None = None
    problems: tuple[str, ...] = ()
    status: OPTServeStatus = field(default_factory=OPTServeStatus)
    followed: ResourceView | None = None
    training: OPTTraining | None = None
    training_status: OPTTrainingStatus = field(default_factory=OPTTrainingStatus)
    pods: tuple[PodView, ...] = ()
    jobs: tuple[JobView, ...] = ()
    deployments: tuple[DeploymentView, ...] = ()
    children: tuple[Child, ...] = ()
    nodes: Mapping[str, NodeView] | None = None
    gateways: Mapping[str, GatewayReport] = field(default_factory=dict)
    unreached: frozenset[str] = frozenset()
    apis: frozenset[str] = frozenset()
    status_age_s: float = 1e9
    refused: str = ""

    @property
    def storage(self) -> StorageSpec | None:
        """Where the source is: its own storage, else the training's."""
        if self.serve is not None and self.serve.spec.storage is not None:
            return self.serve.spec.storage
        return self.training.spec.storage if self.training else None

    def child(self, kind: str, name: str) -> Child | None:
        """A child by kind and name."""
        return next((c for c in self.children if c.kind == kind and c.metadata.name == name), None)

    def deployment(self, name: str) -> DeploymentView | None:
        """A Deployment that is not on its way out."""
        found = (d for d in self.deployments if d.metadata.name == name)
        return next((d for d in found if d.metadata.deletion_timestamp is None), None)

    def gate_job(self, number: int) -> JobView | None:
        """The Job of a gate."""
        name = names.gate_job(self.key.name, number)
        return next((job for job in self.jobs if job.metadata.name == name), None)

    @cached_property
    def replicas(self) -> tuple[PodView, ...]:
        """Pods that hold the model and stay."""
        return tuple(pod for pod in self.pods if pod.role == "replica" and not pod.going and not pod.ended)

    @cached_property
    def gateway_pods(self) -> tuple[PodView, ...]:
        """Pods of gateways that stay."""
        return tuple(pod for pod in self.pods if pod.role == "gateway" and not pod.going and not pod.ended)

    def of_revision(self, revision: str) -> tuple[PodView, ...]:
        """The replicas of one revision."""
        return tuple(pod for pod in self.replicas if pod.metadata.labels.get(names.REVISION) == revision)

    def ready(self, revision: str) -> int:
        """How many of them take requests, on nodes that are not lost."""
        return sum(_is_ready(pod) and self.verdict_of(pod).state != "Lost" for pod in self.of_revision(revision))

    @cached_property
    def verdicts(self) -> Mapping[str, NodeVerdict]:
        """What is to be thought of each node."""
        return {name: judge_node(node) for name, node in (self.nodes or {}).items()}

    def verdict_of(self, pod: PodView) -> NodeVerdict:
        """What is to be thought of a pod's node; a node that is not there any more is lost."""
        if not pod.spec.node_name or self.nodes is None:
            return NodeVerdict("Good")
        found = self.verdicts.get(pod.spec.node_name)
        return found or NodeVerdict("Lost", "NodeGone", f"node {pod.spec.node_name} is no longer in the cluster")

    @property
    def demand(self) -> int | None:
        """Requests in flight and held, over all gateways; None while none is heard."""
        if not self.gateways:
            return None
        return sum(report.in_flight + report.held for report in self.gateways.values())


def _is_ready(pod: PodView) -> bool:
    found = pod.condition("Ready")
    return found is not None and found.status == "True"
