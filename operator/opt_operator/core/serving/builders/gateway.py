"""The gateways: where clients go, and where requests wait for a replica."""

from __future__ import annotations

from opt_api.canonical import canonical_json, digest
from opt_operator.core.actions import Object
from opt_operator.core.builders.common import Amounts, container, env, restricted, scratch_volumes
from opt_operator.core.serving import names
from opt_operator.core.serving.builders.common import KEYS, Blueprint, key_volumes, scratch_mounts

PORT, ADMIN_PORT = 8000, 8001
COUNT = 2
"""One may go while the other answers."""
FROM_MAP, FROM_POD = "/etc/opt-routes", "/etc/opt-pod"
AMOUNTS = Amounts("100m", "256Mi", "256Mi", "16Mi", cpu_limit="2")
LINGER_S = 5
"""A gateway that is told to end takes requests for so long: no proxy is told later than that."""
LEAVE_S = 10


def deployment(made: Blueprint) -> Object:
    """The gateways' Deployment; what it was made from is in an annotation."""
    name, labels = names.gateway(made.parent.name), names.labels(made.parent.name, "gateway")
    spec = {
        "replicas": COUNT,
        "revisionHistoryLimit": 0,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": {**made.parent.pods.labels, **labels}}, "spec": _pod(made, labels)},
    }
    annotations = {names.TEMPLATE: digest(canonical_json(spec))}
    metadata = made.parent.metadata(name, labels, annotations=annotations)
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def routes_map(made: Blueprint, text: str) -> Object:
    """The routes for gateways that start while no operator is there."""
    metadata = made.parent.metadata(names.routes(made.parent.name))
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {names.ROUTES_KEY: text}}


def routed(namespace: str, pod: str, text: str) -> Object:
    """The routes for one gateway that runs."""
    metadata = {"name": pod, "namespace": namespace, "annotations": {names.ROUTES: text}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def _pod(made: Blueprint, labels: dict[str, str]) -> Object:
    spread = {
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }  # fmt: skip
    volumes = [*scratch_volumes(AMOUNTS), *key_volumes(made), *_routes_volumes(made)]
    return restricted(
        made.parent, [_container(made)], volumes, topologySpreadConstraints=[spread],
        terminationGracePeriodSeconds=made.spec.rollout.drain_seconds + LINGER_S + LEAVE_S,
    )  # fmt: skip


def _container(made: Blueprint) -> Object:
    health = {"httpGet": {"path": "/healthz", "port": "admin"}}
    keys = [{"name": "keys", "mountPath": KEYS, "readOnly": True}] if key_volumes(made) else []
    routes = [{"name": n, "mountPath": p, "readOnly": True} for n, p in (("routes", FROM_MAP), ("pod", FROM_POD))]
    base = {"cpu": AMOUNTS.cpu, "memory": AMOUNTS.memory, "ephemeral-storage": AMOUNTS.ephemeral_storage}
    limits = {name: value for name, value in base.items() if name != "cpu"}
    return container(
        "main", made.image, made.parent, _command(made), env=env(made.parent),
        volumeMounts=[*scratch_mounts(), *keys, *routes], resources={"requests": base, "limits": limits},
        ports=[{"name": "http", "containerPort": PORT}, {"name": "admin", "containerPort": ADMIN_PORT}],
        readinessProbe={**health, "periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": 2},
        livenessProbe={
            "httpGet": {"path": "/status", "port": "admin"},
            "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6,
        },
    )  # fmt: skip


def _command(made: Blueprint) -> list[str]:
    limits, parent = made.spec.limits, made.parent
    stranger = made.spec.engine.name == "vllm"
    values = {
        "--port": PORT,
        "--admin-port": ADMIN_PORT,
        "--replicas": f"{names.replicas_service(parent.name)}.{parent.namespace}:{PORT}" if not stranger else None,
        "--instance": names.instance(parent.namespace, parent.name, "") if not stranger else None,
        "--model-name": made.model_name,
        "--hold": limits.deadline_seconds,
        "--max-held": limits.max_queue,
        "--max-body-bytes": limits.max_body_bytes,
        "--linger": LINGER_S,
        "--drain": made.spec.rollout.drain_seconds,
        "--api-keys": f"{KEYS}/keys" if made.spec.access.api_keys_secret else None,
    }
    files = [part for folder in (FROM_MAP, FROM_POD) for part in ("--routes", f"{folder}/{names.ROUTES_KEY}")]
    options = [part for name, value in values.items() if value is not None for part in (name, str(value))]
    return ["python3", "-m", "opt_serving.gateway", *files, *options]


def _routes_volumes(made: Blueprint) -> list[Object]:
    reference = {"fieldPath": f"metadata.annotations['{names.ROUTES}']"}
    return [
        {"name": "routes", "configMap": {"name": names.routes(made.parent.name), "optional": True}},
        {"name": "pod", "downwardAPI": {"items": [{"path": names.ROUTES_KEY, "fieldRef": reference}]}},
    ]
