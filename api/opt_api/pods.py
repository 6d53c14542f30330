"""The narrow set of pod fields a resource may set.

No PodTemplateSpec: host paths, privileges, foreign service accounts and projected tokens cannot be asked for, and
the CRD stays small (research: embedded templates make CRDs of 280 to 820 kB).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from opt_api.base import Model, Rule
from opt_api.lists import Unique
from opt_api.types import Image, LabelKey, LabelValue, Quantity, Subdomain

EnvName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
ResourceName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    ),
]


class Toleration(Model):
    """A Kubernetes toleration."""

    key: LabelKey | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    rules = (
        Rule(
            "value",
            "must be absent when operator is Exists",
            "self.operator != 'Exists' || !has(self.value)",
            lambda t: t.operator != "Exists" or t.value is None,
        ),
        Rule(
            "key",
            "is needed unless operator is Exists",
            "self.operator == 'Exists' || has(self.key)",
            lambda t: t.operator == "Exists" or t.key is not None,
        ),
    )


class EnvVar(Model):
    """A literal environment variable. Names that steer our own processes are refused."""

    name: EnvName
    value: Annotated[str, Field(max_length=4096)]

    rules = (
        Rule(
            "name",
            "must not start with OPT_, LD_, PYTHON, AWS_ or KUBERNETES_",
            "!self.name.matches('^(OPT_|LD_|PYTHON|AWS_|KUBERNETES_)')",
            lambda e: not e.name.startswith(("OPT_", "LD_", "PYTHON", "AWS_", "KUBERNETES_")),
        ),
    )


class Resources(Model):
    """Requests, which are also the limits, of one pod."""

    cpu: Quantity = "1"
    memory: Quantity = "2Gi"
    ephemeral_storage: Quantity = "10Gi"
    """Local disk. A host of a training keeps the shards of its data set there, two bytes a token."""
    shared_memory: Quantity = "1Gi"
    """Size of /dev/shm, within `memory`."""


class PodSpec(Model):
    """What every pod of a resource takes; changes reach the pods with the next attempt or roll."""

    image: Image | None = None
    """The chart's image for the role when absent."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: Annotated[tuple[Subdomain, ...], Field(max_length=8), Unique()] = ()
    resources: Resources = Field(default_factory=Resources)
    accelerator: ResourceName = "nvidia.com/gpu"
    """Extended resource that counts devices; not asked for when the device is cpu."""
    network_resource: ResourceName | None = None
    """Extended resource of a fast network, one per host, such as `rdma/hca`."""
    node_selector: Annotated[dict[LabelKey, LabelValue], Field(max_length=16)] = Field(default_factory=dict)
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] = ()
    env: Annotated[tuple[EnvVar, ...], Field(max_length=32), Unique("name")] = ()
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=16)] = Field(default_factory=dict)
    """Labels for the user's own bookkeeping."""
    topology_key: LabelKey | None = None
    """Node label within which the gang is kept together, such as a rack or block."""

    rules = (
        Rule(
            "labels",
            "keys under opt-operator.io/ are ours",
            "self.labels.all(k, !k.startsWith('opt-operator.io/') && !k.contains('.opt-operator.io/'))",
            lambda p: not any(k.startswith("opt-operator.io/") or ".opt-operator.io/" in k for k in p.labels),
        ),
    )
