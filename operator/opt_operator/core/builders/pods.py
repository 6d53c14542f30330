"""The pods that are made directly: coordinator and hosts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from opt_api.documents.plan import Plan
from opt_api.quantity import bytes_of
from opt_operator.core import names
from opt_operator.core.actions import Object
from opt_operator.core.builders.common import PLAN_FILE, SMALL, Amounts, Parent, container, env, mounts, pod_spec
from opt_operator.core.builders.storage import store_env, store_url

COORDINATOR_PORT, RENDEZVOUS_PORT, AGENT_PORT = 7070, 7071, 7072
ENTRY = "opt_cli.worker_entry:run"
IDENTITY = "/etc/opt-host"
GRACE_S = 5
"""An agent has nothing to save by itself: the gang saves when the coordinator says so."""
HOSTNAME = "kubernetes.io/hostname"
POD_IP = ("POD_IP", "status.podIP")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a pod may go.

    Attributes:
        avoid: Nodes that are broken or quarantined.
        alone: On no machine that has a host of the training; else preferably so.
    """

    avoid: Collection[str] = ()
    alone: bool = False


def coordinator(
    parent: Parent, plan: Plan, image: str, attempt: int, made_in: str, avoid: Collection[str] = ()
) -> Object:
    """The coordinator with the rendezvous beside it, as a sidecar that ends when the coordinator ends.

    Workers are told the rendezvous by its address: its name leads to the old one for a while after a replacement.
    `made_in` is the gang's attempt now; `avoid` are nodes that are broken or quarantined.
    """
    assert plan.storage is not None
    rendezvous = container(
        "rendezvous", image, parent,
        ["python3", "-m", "opt_runtime.rendezvous", "--host", "0.0.0.0", "--port", str(RENDEZVOUS_PORT)],  # noqa: S104
        env=env(parent), volumeMounts=mounts(plan)[:2], resources=SMALL.document(), restartPolicy="Always",
        ports=[{"name": "rendezvous", "containerPort": RENDEZVOUS_PORT}],
    )  # fmt: skip
    main = container(
        "coordinator", image, parent,
        ["python3", "-m", "opt_runtime.coordinator", "--plan", PLAN_FILE, "--store", store_url(plan.storage),
         "--rendezvous", f"$(POD_IP):{RENDEZVOUS_PORT}", "--listen", f"0.0.0.0:{COORDINATOR_PORT}"],
        env=env(parent, *store_env(plan.storage), fields=(POD_IP,)), volumeMounts=mounts(plan),
        resources=SMALL.document(), ports=[{"name": "coordinator", "containerPort": COORDINATOR_PORT}],
    )  # fmt: skip
    return _pod(
        parent, names.coordinator_pod(parent.name, attempt), names.pod_labels(parent.name, "coordinator", attempt),
        pod_spec(parent, plan, [main], SMALL, initContainers=[rendezvous], terminationGracePeriodSeconds=5,
                 affinity=_affinity(parent, Placement(avoid), is_host=False)),
        annotations={names.PLAN: plan.digest(), names.MADE_IN: made_in},
    )  # fmt: skip


def host(parent: Parent, plan: Plan, image: str, attempt: int, slot: int, dataset: str, where: Placement) -> Object:
    """A host: an agent, which starts the workers. Its identity comes from the node it was bound to, see `identity`."""
    assert plan.storage is not None
    amounts = host_amounts(parent, plan)
    role: names.Role = "gang" if slot < plan.layout.hosts else "spare"
    labels = {**parent.pods.labels, **names.pod_labels(parent.name, role, attempt), names.SLOT: str(slot)}
    service = names.coordinator_service(parent.name)
    command = [
        "python3", "-m", "opt_runtime.agent", "--run", parent.name, "--host", "$(POD_NAME)",
        "--hardware", "$(OPT_HARDWARE)", "--domain", "$(OPT_DOMAIN)", "--directory", "/tmp/opt",  # noqa: S108
        "--coordinator", f"{service}:{COORDINATOR_PORT}", "--entry", ENTRY,
        "--workers", str(plan.layout.devices_per_host), "--listen", f"$(POD_IP):{AGENT_PORT}",
        *_checks(parent, plan, shared=not where.alone),
    ]  # fmt: skip
    wait = container(
        "identity", image, parent, ["sh", "-c", f"until [ -s {IDENTITY}/hardware ]; do sleep 0.1; done"],
        volumeMounts=[{"name": "identity", "mountPath": IDENTITY, "readOnly": True}], resources=amounts.document(),
    )  # fmt: skip
    main = container(
        "agent", image, parent, command, env=_host_env(parent, plan, dataset), volumeMounts=mounts(plan),
        resources=amounts.document(), ports=[{"name": "agent", "containerPort": AGENT_PORT}],
    )  # fmt: skip
    spec = pod_spec(
        parent, plan, [main], amounts, initContainers=[wait], terminationGracePeriodSeconds=GRACE_S,
        subdomain=names.hosts_service(parent.name), affinity=_affinity(parent, where, is_host=True),
    )  # fmt: skip
    spec["volumes"].append(_identity_volume())
    return _pod(parent, names.host_pod(parent.name, attempt, slot), labels, spec)


def identity(namespace: str, pod: str, hardware: str, domain: str) -> Object:
    """The annotations that tell a host which machine it is on."""
    annotations = {names.HARDWARE: hardware, names.DOMAIN: domain}
    metadata = {"name": pod, "namespace": namespace, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def role(namespace: str, pod: str, name: names.Role) -> Object:
    """The role label, after the coordinator took a spare into the gang or let a host go."""
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod, "namespace": namespace, "labels": {names.ROLE: name}}}  # fmt: skip


def _checks(parent: Parent, plan: Plan, *, shared: bool) -> list[str]:
    """How a host is burned in before it may train; where hosts may share a machine, speeds say nothing of it."""
    checks = plan.resilience.host_checks
    if not checks.enabled:
        return []
    partner = f"{names.coordinator_service(parent.name)}:{RENDEZVOUS_PORT}"
    load = ["--check-seconds", str(checks.seconds), "--check-with", partner]
    return [*load, "--shared-machine"] if shared else load


def host_amounts(parent: Parent, plan: Plan) -> Amounts:
    """What a host asks for: the spec's amounts, one accelerator a worker, one network device."""
    r, extended = parent.pods.resources, []
    if plan.layout.device != "cpu":
        extended.append((parent.pods.accelerator, str(plan.layout.devices_per_host)))
    if parent.pods.network_resource:
        extended.append((parent.pods.network_resource, "1"))
    return Amounts(r.cpu, r.memory, r.ephemeral_storage, r.shared_memory, tuple(extended))


def _host_env(parent: Parent, plan: Plan, dataset: str) -> list[Object]:
    assert plan.storage is not None
    return env(
        parent,
        ("OPT_RUN_PLAN", PLAN_FILE),
        ("OPT_RUN_STORE", store_url(plan.storage)),
        ("OPT_RUN_DATASET", dataset),
        ("OPT_RUN_DISK", str(bytes_of(parent.pods.resources.ephemeral_storage))),
        *store_env(plan.storage),
        fields=(
            ("POD_NAME", "metadata.name"),
            POD_IP,
            ("OPT_HARDWARE", f"metadata.annotations['{names.HARDWARE}']"),
            ("OPT_DOMAIN", f"metadata.annotations['{names.DOMAIN}']"),
        ),
    )


def _identity_volume() -> Object:
    reference = {"fieldPath": f"metadata.annotations['{names.HARDWARE}']"}
    return {"name": "identity", "downwardAPI": {"items": [{"path": "hardware", "fieldRef": reference}]}}


def _affinity(parent: Parent, where: Placement, *, is_host: bool) -> Object:
    """Hosts on machines of their own, within the topology that was asked for; the coordinator best where no host is.

    Where a node is lost with both, a new coordinator comes first; beside a spare less is lost than beside the gang.
    """
    hosts = _beside(parent, "gang", "spare")
    apart: Object = {"requiredDuringSchedulingIgnoredDuringExecution": [hosts]} if where.alone else {}
    if wishes := _wishes(parent, hosts, where, is_host=is_host):
        apart["preferredDuringSchedulingIgnoredDuringExecution"] = wishes
    made: Object = {"podAntiAffinity": apart}
    if parent.pods.topology_key and is_host:
        term = {**hosts, "topologyKey": parent.pods.topology_key}
        made["podAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    if where.avoid:
        terms = [{"matchExpressions": [{"key": HOSTNAME, "operator": "NotIn", "values": sorted(where.avoid)}]}]
        made["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return made


def _wishes(parent: Parent, hosts: Object, where: Placement, *, is_host: bool) -> list[Object]:
    """What a pod had better not share a node with, by weight."""
    apart = [] if where.alone else [(100 if is_host else 50, hosts)]
    other = (50, _beside(parent, "coordinator")) if is_host else (50, _beside(parent, "gang"))
    return [{"weight": weight, "podAffinityTerm": term} for weight, term in (*apart, other)]


def _beside(parent: Parent, *roles: names.Role) -> Object:
    """On one node with a pod of the training in one of these roles."""
    role_in = {"key": names.ROLE, "operator": "In", "values": list(roles)}
    selector = {"matchLabels": names.common_labels(parent.name), "matchExpressions": [role_in]}
    return {"labelSelector": selector, "topologyKey": HOSTNAME}


def _pod(parent: Parent, name: str, labels: dict[str, str], spec: Object, **metadata: Any) -> Object:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": parent.metadata(name, labels, **metadata), "spec": spec}
