"""What the pods of a served model have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opt_api.resources import OPTServe
from opt_api.serving.spec import OPTServeSpec
from opt_api.serving.status import ServedCheckpoint
from opt_api.storage import StorageSpec
from opt_operator.core.actions import Object
from opt_operator.core.builders.common import Amounts, Parent, restricted, scratch_volumes
from opt_operator.core.builders.storage import store_mounts, store_volumes

KEYS = "/etc/opt-keys"
TEMPLATE_FOLDER = "/etc/opt-chat"


@dataclass(frozen=True)
class Blueprint:
    """What objects are built from.

    Attributes:
        parent: The owner of all of them.
        serve: The resource, checked.
        image: Of replicas with the native engine, of gates and of gateways.
        engine_image: Of replicas.
        storage: Where the weights are.
    """

    parent: Parent
    serve: OPTServe
    image: str
    engine_image: str
    storage: StorageSpec | None

    @property
    def spec(self) -> OPTServeSpec:
        """Of the resource."""
        return self.serve.spec

    @property
    def model_name(self) -> str:
        """In the API."""
        return self.spec.model_name or self.parent.name


@dataclass(frozen=True)
class Revision:
    """One checkpoint under the name of how it is served."""

    name: str
    checkpoint: ServedCheckpoint


def replica_amounts(made: Blueprint) -> Amounts:
    """What a pod of a replica asks for: the spec's amounts and its accelerators."""
    r, engine = made.spec.pods.resources, made.spec.engine
    devices = engine.devices_per_replica // engine.hosts_per_replica
    extended = ((made.spec.pods.accelerator, str(devices)),) if engine.device != "cpu" else ()
    return Amounts(r.cpu, r.memory, r.ephemeral_storage, r.shared_memory, extended)


def pod(made: Blueprint, containers: Sequence[Object], amounts: Amounts, **more: Any) -> Object:
    """A pod with the store, the keys and the chat template."""
    volumes = [*scratch_volumes(amounts), *store_volumes(made.storage), *_access_volumes(made)]
    return restricted(made.parent, containers, volumes, **more)


def mounts(made: Blueprint) -> list[Object]:
    """Where containers find what `pod` provides."""
    access = {"keys": KEYS, "chat": TEMPLATE_FOLDER}
    return [
        *scratch_mounts(),
        *store_mounts(made.storage),
        *({"name": v["name"], "mountPath": access[v["name"]], "readOnly": True} for v in _access_volumes(made)),
    ]


def scratch_mounts() -> list[Object]:
    """Of `scratch_volumes`."""
    return [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - likewise
    ]


def key_volumes(made: Blueprint) -> list[Object]:
    """The API keys, as the kubelet mounts them."""
    secret = made.spec.access.api_keys_secret
    keys = [{"key": "keys", "path": "keys"}]
    return [{"name": "keys", "secret": {"secretName": secret, "items": keys}}] if secret else []


def _access_volumes(made: Blueprint) -> list[Object]:
    chat = made.spec.access.chat_template_config_map
    items = [{"key": "template", "path": "template"}]
    return [*key_volumes(made), *([{"name": "chat", "configMap": {"name": chat, "items": items}}] if chat else [])]
