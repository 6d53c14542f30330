"""What keeps the pods of one revision (one checkpoint, served in one way): a Deployment, or a LeaderWorkerSet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opt_api.canonical import canonical_json, digest
from opt_api.quantity import parse_quantity
from opt_api.serving.status import ServedCheckpoint
from opt_operator.core.actions import Kind, Object
from opt_operator.core.builders.common import container, env
from opt_operator.core.builders.storage import store_env
from opt_operator.core.serving import names
from opt_operator.core.serving.builders import vllm
from opt_operator.core.serving.builders.common import (
    KEYS,
    TEMPLATE_FOLDER,
    Blueprint,
    Revision,
    mounts,
    pod,
    replica_amounts,
)

PORT = 8000
STARTUP_S = 1800
"""A replica has so long to fetch and load its weights before the kubelet starts it anew."""
LEAVE_S = 10
"""Beyond the drain, before the kubelet kills."""
REVISION_CHARS = 10
API_VERSIONS: Mapping[Kind, str] = {
    "Deployment": "apps/v1", "LeaderWorkerSet": f"{names.LEADER_WORKER_SETS}/v1",
}  # fmt: skip


def revision_of(made: Blueprint, checkpoint: ServedCheckpoint) -> str:
    """Name of a checkpoint together with how it is served: the digest of its pods' template."""
    nameless = Revision("", checkpoint)
    first = _template(made, nameless)
    whole = first if made.spec.engine.hosts_per_replica == 1 else _group(made, nameless)
    return digest(canonical_json(whole)).removeprefix("sha256:")[:REVISION_CHARS]


def workload(made: Blueprint, revision: Revision, count: int) -> Object:
    """The object that keeps the pods; its name says the revision, so that it never changes but in size."""
    labels = _labels(made, revision)
    if made.spec.engine.hosts_per_replica == 1:
        kind: Kind = "Deployment"
        pods: Object = {
            "revisionHistoryLimit": 0, "selector": {"matchLabels": labels}, "template": _template(made, revision),
        }  # fmt: skip
    else:
        kind, pods = "LeaderWorkerSet", {"leaderWorkerTemplate": _group(made, revision)}
    return {
        "apiVersion": API_VERSIONS[kind],
        "kind": kind,
        "metadata": made.parent.metadata(names.replicas(made.parent.name, revision.name), labels),
        "spec": {"replicas": count, **pods},
    }


def scaled(kind: Kind, namespace: str, name: str, count: int) -> Object:
    """Another size."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": metadata, "spec": {"replicas": count}}


def _labels(made: Blueprint, revision: Revision, role: names.Role = "replica") -> dict[str, str]:
    return names.labels(made.parent.name, role, **{names.REVISION: revision.name})


def _template(made: Blueprint, revision: Revision) -> Object:
    return {"metadata": {"labels": _pod_labels(made, revision, "replica")}, "spec": _pod(made, revision)}


def _pod_labels(made: Blueprint, revision: Revision, role: names.Role) -> dict[str, str]:
    step = revision.checkpoint.step
    marks = {names.STEP: str(step)} if step is not None else {}
    return {**made.parent.pods.labels, **marks, **_labels(made, revision, role)}


def _group(made: Blueprint, revision: Revision) -> Object:
    """Hosts of one replica: they come and go together, since none holds a whole model."""
    shared = {name: part for name, part in _shared(made).items() if name in ("env", "volumeMounts", "resources")}
    follower = pod(
        made, [vllm.follower(made, **shared)], replica_amounts(made), initContainers=[vllm.fetch(made, revision)]
    )
    return {
        "size": made.spec.engine.hosts_per_replica,
        "restartPolicy": "RecreateGroupOnPodRestart",
        "leaderTemplate": _template(made, revision),
        "workerTemplate": {"metadata": {"labels": _pod_labels(made, revision, "worker")}, "spec": follower},
    }


def _pod(made: Blueprint, revision: Revision) -> Object:
    amounts = replica_amounts(made)
    before: list[Object] = []
    if made.spec.engine.name == "vllm":
        main = vllm.engine(made, revision, **_shared(made))
        before = [vllm.fetch(made, revision)]
    else:
        main = container("main", made.engine_image, made.parent, _command(made, revision), **_shared(made))
        main["env"] = [*main["env"], {"name": names.INSTANCE, "value": _instance(made, revision)}]
    spread = {
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _labels(made, revision)},
    }  # fmt: skip
    return pod(
        made, [main], amounts, topologySpreadConstraints=[spread], initContainers=before,
        terminationGracePeriodSeconds=made.spec.rollout.drain_seconds + LEAVE_S,
    )  # fmt: skip


def _shared(made: Blueprint) -> dict[str, Any]:
    """What the containers of both engines have."""
    health = {"httpGet": {"path": "/health", "port": "http"}}
    return {
        "env": env(made.parent, *store_env(made.storage)),
        "volumeMounts": mounts(made),
        "resources": replica_amounts(made).document(),
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": {**health, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": STARTUP_S},
        "readinessProbe": {**health, "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 2},
        "livenessProbe": {
            "httpGet": {"path": "/version", "port": "http"},
            "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6,
        },
    }  # fmt: skip


def _instance(made: Blueprint, revision: Revision) -> str:
    return names.instance(made.parent.namespace, made.parent.name, revision.name)


def _command(made: Blueprint, revision: Revision) -> list[str]:
    engine, limits, access = made.spec.engine, made.spec.limits, made.spec.access
    values = {
        "--host": "0.0.0.0",  # noqa: S104 - a pod's own address
        "--port": PORT,
        "--model-name": made.model_name,
        "--weights": engine.weights,
        "--device": engine.device,
        "--threads": max(1, int(parse_quantity(made.spec.pods.resources.cpu))),
        "--tensor-parallel": engine.tensor_parallel,
        "--max-sequences": engine.max_sequences,
        "--max-length": engine.max_sequence_length,
        "--kv-cache-bytes": engine.kv_cache_bytes,
        "--prefill-chunk": engine.prefill_chunk_tokens,
        "--prefill-chunk-seconds": engine.prefill_chunk_seconds,
        "--max-queue": limits.max_queue,
        "--max-body-bytes": limits.max_body_bytes,
        "--max-prompts": limits.max_prompts,
        "--deadline": limits.deadline_seconds,
        "--drain": made.spec.rollout.drain_seconds,
        "--api-keys": f"{KEYS}/keys" if access.api_keys_secret else None,
        "--chat-template": f"{TEMPLATE_FOLDER}/template" if access.chat_template_config_map else None,
    }
    options = [part for name, value in values.items() if value is not None for part in (name, str(value))]
    flags = ["--kv-cache-pretouch"] if engine.kv_cache_pretouch else []
    return ["optctl", "serve", str(revision.checkpoint.uri), *options, *flags]
