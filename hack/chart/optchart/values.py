"""The chart's values: what may be set, and nothing else. `values.schema.json` is made from here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

DnsLabel = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Subdomain = Annotated[str, Field(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
Digest = Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")]
Port = Annotated[int, Field(ge=1024, le=65535)]
Amount = Annotated[str | int | float, Field(description="a Kubernetes quantity")]
Words = dict[str, str]


class Values(BaseModel):
    """One section; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Digests(Values):
    """Digest of each image, which pins it."""

    operator: Digest
    trainer: Digest
    dataprep: Digest
    serving: Digest


class Images(Values):
    """Where the images are."""

    registry: Annotated[str, Field(min_length=1, pattern=r"^[a-z0-9][a-z0-9._:/-]*$")]
    tag: Annotated[str, Field(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$")]
    digests: Digests
    vllm: Annotated[str, Field(pattern=r"^([a-z0-9][A-Za-z0-9._:/@-]*)?$")]
    pull_policy: Literal["Always", "IfNotPresent", "Never"]
    pull_secrets: list[Subdomain]


class Watch(Values):
    """Which namespaces."""

    all_namespaces: bool
    namespaces: list[DnsLabel]


class Resources(Values):
    """Of one container."""

    requests: dict[str, Amount] = {}
    limits: dict[str, Amount] = {}


class Crds(Values):
    """The definitions of OPTTraining and OPTServe."""

    enabled: bool
    keep: bool


class Rbac(Values):
    """Rights beyond those on the watched namespaces."""

    nodes: bool
    taint_nodes: bool
    aggregate: bool


class Switch(Values):
    """On or off."""

    enabled: bool


class ServiceMonitor(Values):
    """For the Prometheus operator."""

    enabled: bool
    labels: Words
    interval: Annotated[str, Field(pattern=r"^[0-9]+(ms|s|m)$")]


class Labelled(Values):
    """An object that others find by its labels."""

    enabled: bool
    labels: Words


class Metrics(Values):
    """What Prometheus and Grafana get."""

    port: Port
    service_monitor: ServiceMonitor
    prometheus_rule: Labelled
    dashboard: Labelled


class Probes(Values):
    """Health."""

    port: Port


class Persistence(Values):
    """A claim for the evaluation store."""

    enabled: bool
    size: Amount
    storage_class_name: str


class EvaluationStore(Values):
    """An S3 server to try things out."""

    enabled: bool
    name: DnsLabel
    port: Port
    bucket: Annotated[str, Field(min_length=3, max_length=63, pattern=r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$")]
    image: Annotated[str, Field(min_length=1)]
    command: list[str]
    args: list[str]
    env: list[dict[str, Any]]
    credentials_secret: Subdomain
    secret_namespaces: list[DnsLabel]
    resources: Resources
    persistence: Persistence


class ChartValues(Values):
    """All values."""

    images: Images
    watch: Watch
    replicas: Annotated[int, Field(ge=1, le=5)]
    resources: Resources
    priority_class_name: str
    node_selector: Words
    tolerations: list[dict[str, Any]]
    crds: Crds
    rbac: Rbac
    admission_policy: Switch
    network_policy: Switch
    pod_disruption_budget: Switch
    metrics: Metrics
    probes: Probes
    evaluation_store: EvaluationStore
    global_: Annotated[dict[str, Any], Field(alias="global", description="of a parent chart")] = {}


def schema() -> dict[str, Any]:
    """The JSON schema, in the draft that Helm reads."""
    made = ChartValues.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
