"""What every object of ours has in common: owner, labels, and a pod that passes Pod Security `restricted`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from opt_api.base import API_VERSION
from opt_api.documents.plan import Plan
from opt_api.pods import PodSpec
from opt_operator.core import names
from opt_operator.core.actions import Object
from opt_operator.core.builders.storage import store_mounts, store_volumes

USER = 65532
"""`nonroot` of the distroless images; any user will do."""
PLAN_FOLDER = "/etc/opt"
PLAN_FILE = f"{PLAN_FOLDER}/{Plan.file_name}"
NODE_LOST_S, NODE_UNWELL_S = 30, 60
"""Lost nodes are ours to handle, long before; should we be away, Kubernetes deletes the pods after so many seconds."""


@dataclass(frozen=True)
class Parent:
    """The resource that an object belongs to.

    Attributes:
        name, namespace, uid: Of the resource.
        pods: Its pod settings.
        kind: Of the resource.
    """

    name: str
    namespace: str
    uid: str
    pods: PodSpec = field(default_factory=PodSpec)
    kind: str = "OPTTraining"

    def owner(self) -> Object:
        """The owner reference; deletion of the owner is never held up by a child."""
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }

    def metadata(self, name: str, labels: dict[str, str] | None = None, **more: Any) -> Object:
        """Metadata of a child."""
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": {**(labels or names.owned_by(self.kind, self.name))},
            "ownerReferences": [self.owner()],
            **more,
        }


@dataclass(frozen=True)
class Amounts:
    """Requests, which are also the limits; processors may have a limit of their own."""

    cpu: str
    memory: str
    ephemeral_storage: str
    shared_memory: str
    extended: tuple[tuple[str, str], ...] = ()
    cpu_limit: str = ""

    def document(self) -> Object:
        """As Kubernetes writes it."""
        base = {"cpu": self.cpu, "memory": self.memory, "ephemeral-storage": self.ephemeral_storage}
        amounts = {**base, **dict(self.extended)}
        return {"requests": amounts, "limits": {**amounts, "cpu": self.cpu_limit or self.cpu}}


SMALL = Amounts("200m", "768Mi", "1Gi", "64Mi", cpu_limit="2")
"""Of a program that only talks, and begins five times as quickly with all of a processor: a gang may wait for it."""


def container(name: str, image: str, parent: Parent, command: Sequence[str], **more: Any) -> Object:
    """A container that may nothing but compute."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": parent.pods.image_pull_policy,
        "command": list(command),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **more,
    }


def pod_spec(parent: Parent, plan: Plan, containers: Sequence[Object], amounts: Amounts, **more: Any) -> Object:
    """A pod of a training: with the plan and the store."""
    volumes = [
        *scratch_volumes(amounts),
        {"name": "plan", "configMap": {"name": names.plan_map(parent.name, plan.digest())}},
        *store_volumes(plan.storage),
    ]
    return restricted(parent, containers, volumes, restartPolicy="Never", **more)


def restricted(parent: Parent, containers: Sequence[Object], volumes: Sequence[Object], **more: Any) -> Object:
    """A pod without token, with a read-only root, that passes Pod Security `restricted`."""
    pods = parent.pods
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": list(containers),
        "volumes": list(volumes),
        "nodeSelector": dict(pods.node_selector),
        "tolerations": [*(t.wire() for t in pods.tolerations), *_tolerations()],
        **(
            {"imagePullSecrets": [{"name": name} for name in pods.image_pull_secrets]}
            if pods.image_pull_secrets
            else {}
        ),
        **more,
    }


def mounts(plan: Plan) -> list[Object]:
    """Where containers find what `pod_spec` provides."""
    return [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - likewise
        {"name": "plan", "mountPath": PLAN_FOLDER, "readOnly": True},
        *store_mounts(plan.storage),
    ]


def env(parent: Parent, *ours: tuple[str, str], fields: Sequence[tuple[str, str]] = ()) -> list[Object]:
    """The user's variables, then ours, which the user cannot name."""
    literals = {"HOME": "/tmp", **{item.name: item.value for item in parent.pods.env}, **dict(ours)}  # noqa: S108
    taken = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields]
    return [*({"name": name, "value": value} for name, value in literals.items()), *taken]


def scratch_volumes(amounts: Amounts) -> list[Object]:
    """A pod's own /tmp and /dev/shm."""
    return [
        {"name": "tmp", "emptyDir": {"sizeLimit": amounts.ephemeral_storage}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": amounts.shared_memory}},
    ]


def _tolerations() -> list[Object]:
    waits = (("node.kubernetes.io/unreachable", NODE_LOST_S), ("node.kubernetes.io/not-ready", NODE_UNWELL_S))
    return [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
        for key, seconds in waits
    ]
