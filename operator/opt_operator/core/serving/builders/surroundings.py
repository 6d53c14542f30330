"""What the pods of a served model need around them: Services, NetworkPolicies, PodDisruptionBudgets."""

from __future__ import annotations

from opt_operator.core.actions import Concern, Object
from opt_operator.core.builders.surroundings import dns_egress, store_egress
from opt_operator.core.serving import names
from opt_operator.core.serving.builders import gateway, replicas
from opt_operator.core.serving.builders.common import Blueprint

HOSTS: tuple[names.Role, ...] = ("replica", "worker")


def surroundings(made: Blueprint) -> list[tuple[Object, Concern]]:
    """All of them."""
    parent = made.parent.name
    listed: list[tuple[Object, Concern]] = [
        (_service(made, names.gateway(parent), "gateway", {"http": gateway.PORT, "admin": gateway.ADMIN_PORT}),
         "opt-network"),
        (_headless(made), "opt-network"),
        (_budget(made, names.gateway(parent), "gateway"), "opt-workload"),
        (_budget(made, names.replicas_service(parent), "replica"), "opt-workload"),
    ]  # fmt: skip
    return [*listed, *((policy, "opt-network") for policy in _policies(made))]


def _service(made: Blueprint, name: str, role: names.Role, ports: dict[str, int]) -> Object:
    listed = [{"name": name, "port": port, "targetPort": port, "protocol": "TCP"} for name, port in ports.items()]
    selector = names.labels(made.parent.name, role)
    spec = {"selector": selector, "ports": listed}
    return {"apiVersion": "v1", "kind": "Service", "metadata": made.parent.metadata(name), "spec": spec}


def _headless(made: Blueprint) -> Object:
    """Addresses of the replicas, for gateways that no operator tells them."""
    found = _service(made, names.replicas_service(made.parent.name), "replica", {"http": replicas.PORT})
    found["spec"]["clusterIP"] = "None"
    return found


def _budget(made: Blueprint, name: str, role: names.Role) -> Object:
    """One at a time is evicted; while a single replica moves, the gateways hold its requests."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": made.parent.metadata(name),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": names.labels(made.parent.name, role)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def _policies(made: Blueprint) -> list[Object]:
    """Clients reach gateways, gateways reach replicas, replicas and gates reach the store; nothing else."""
    name = made.parent.name
    to = {role: [{"podSelector": {"matchLabels": names.labels(name, role)}}] for role in ("gateway", "replica")}
    store = store_egress(made.storage)
    anyone: Object = {"ports": [_port(gateway.PORT)]}
    cluster = {"from": [{"namespaceSelector": {}}], "ports": [_port(gateway.ADMIN_PORT)]}
    onward = {"to": to["replica"], "ports": [_port(replicas.PORT)]}
    from_gateways: Object = {"from": to["gateway"], "ports": [_port(replicas.PORT)]}
    listed = [
        _policy(made, "gateway", [anyone, cluster], [onward, dns_egress()]),
        _policy(made, "gate", [], [dns_egress(), *store]),
    ]
    if made.spec.engine.hosts_per_replica > 1:
        return [*listed, *_between_hosts(made, from_gateways, store)]
    return [*listed, _policy(made, "replica", [from_gateways], [dns_egress(), *store])]


def _between_hosts(made: Blueprint, from_gateways: Object, store: list[Object]) -> list[Object]:
    """Hosts of replicas speak with each other, on ports that they agree on."""
    peers = [{"podSelector": {"matchLabels": names.labels(made.parent.name, role)}} for role in HOSTS]
    inward, outward = {"from": peers}, [{"to": peers}, dns_egress(), *store]
    return [
        _policy(made, "replica", [from_gateways, inward], outward),
        _policy(made, "worker", [inward], outward),
    ]


def _policy(made: Blueprint, role: names.Role, ingress: list[Object], egress: list[Object]) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": made.parent.metadata(names.policy(made.parent.name, role)),
        "spec": {
            "podSelector": {"matchLabels": names.labels(made.parent.name, role)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    }


def _port(number: int) -> Object:
    return {"port": number, "protocol": "TCP"}
