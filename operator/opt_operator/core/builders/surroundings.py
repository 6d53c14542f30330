"""What a training's pods need around them: the plan, Services, a NetworkPolicy, a PodDisruptionBudget."""

from __future__ import annotations

from urllib.parse import urlsplit

from opt_api.base import GROUP
from opt_api.documents.plan import Plan
from opt_api.storage import StorageSpec
from opt_operator.core import names
from opt_operator.core.actions import Object
from opt_operator.core.builders.common import Parent
from opt_operator.core.builders.pods import AGENT_PORT, COORDINATOR_PORT, RENDEZVOUS_PORT

OPERATOR_PODS = {f"{GROUP}/component": "operator"}
"""A label that no resource can put on a pod, unlike those of app.kubernetes.io."""
METADATA_ADDRESSES = {"0.0.0.0/0": ["169.254.0.0/16"], "::/0": ["fd00:ec2::254/128", "fe80::/10"]}
"""Everywhere, but for what clouds tell their machines, credentials among it."""
ALL = 2**31 - 1
"""More pods than there are. A budget's `maxUnavailable` is refused for pods whose owner has no scale subresource."""


def plan_map(parent: Parent, plan: Plan) -> Object:
    """The plan; immutable, as its name is its digest."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": parent.metadata(names.plan_map(parent.name, plan.digest())),
        "immutable": True,
        "data": {Plan.file_name: plan.to_bytes().decode()},
    }


def coordinator_service(parent: Parent, attempt: int) -> Object:
    """Leads to the coordinator of that attempt and no older one."""
    ports = {"coordinator": COORDINATOR_PORT, "rendezvous": RENDEZVOUS_PORT}
    selector = {**names.common_labels(parent.name), names.ROLE: "coordinator", names.ATTEMPT: str(attempt)}
    return _service(parent, names.coordinator_service(parent.name), selector, ports)


def hosts_service(parent: Parent) -> Object:
    """Headless: gives hosts names of their own."""
    selector = {**names.common_labels(parent.name)}
    made = _service(parent, names.hosts_service(parent.name), selector, {"agent": AGENT_PORT})
    made["spec"] |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    return made


def disruption_budget(parent: Parent) -> Object:
    """No host is evicted under the gang; a drained node's are replaced and deleted by us, and the drain goes on."""
    expression = {"key": names.ROLE, "operator": "In", "values": ["gang", "spare"]}
    selector = {"matchLabels": names.common_labels(parent.name), "matchExpressions": [expression]}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": parent.metadata(names.hosts_service(parent.name)),
        "spec": {"minAvailable": ALL, "selector": selector, "unhealthyPodEvictionPolicy": "AlwaysAllow"},
    }


def network_policy(parent: Parent, plan: Plan) -> Object:
    """In: from the same training, and the operator to the coordinator. Out: the same training, DNS, the store."""
    mine = {"podSelector": {"matchLabels": names.common_labels(parent.name)}}
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": OPERATOR_PODS}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": parent.metadata(names.hosts_service(parent.name)),
        "spec": {
            "podSelector": {"matchLabels": names.common_labels(parent.name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": [mine]},
                {"from": [operator], "ports": [{"port": COORDINATOR_PORT, "protocol": "TCP"}]},
            ],
            "egress": [{"to": [mine]}, dns_egress(), *store_egress(plan.storage)],
        },
    }


def dns_egress() -> Object:
    """To whoever answers for names."""
    return {"ports": [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]}


def store_egress(storage: StorageSpec | None) -> list[Object]:
    """To the object store, wherever it is."""
    if storage is None or storage.s3 is None:
        return []
    url = urlsplit(storage.s3.endpoint)
    port = url.port or (443 if url.scheme == "https" else 80)
    blocks = [{"ipBlock": {"cidr": cidr, "except": but}} for cidr, but in METADATA_ADDRESSES.items()]
    return [{"to": blocks, "ports": [{"port": port, "protocol": "TCP"}]}]


def _service(parent: Parent, name: str, selector: dict[str, str], ports: dict[str, int]) -> Object:
    listed = [{"name": name, "port": port, "targetPort": port, "protocol": "TCP"} for name, port in ports.items()]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": parent.metadata(name),
        "spec": {"selector": selector, "ports": listed},
    }
