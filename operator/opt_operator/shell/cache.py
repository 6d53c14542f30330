"""What the API server has, as far as it concerns us: narrow views, kept by list and watch."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
from pydantic import ValidationError

from opt_operator.core import names
from opt_operator.core.snapshot import Key
from opt_operator.core.views import (
    UNSAID,
    Child,
    DeploymentView,
    JobView,
    LeaderWorkerSetView,
    NodeView,
    PodView,
    ResourceView,
    View,
)
from opt_operator.shell.kube import ApiFault, Kube

RETRY_S, RETRY_LIMIT_S = 0.5, 30.0
FORBIDDEN_S = 60.0
GONE_KEPT = 512
VIEWS: Mapping[str, type[View]] = {
    "Pod": PodView, "Job": JobView, "Node": NodeView, "Deployment": DeploymentView,
    "LeaderWorkerSet": LeaderWorkerSetView,
    "OPTTraining": ResourceView, "OPTServe": ResourceView,
}  # fmt: skip
CHILDREN = ("ConfigMap", "Service", "NetworkPolicy", "PodDisruptionBudget")
KINDS = ("OPTTraining", "OPTServe", "Pod", "Job", "Deployment", "LeaderWorkerSet", *CHILDREN, "Node")
OPTIONAL = ("Node", "LeaderWorkerSet")
"""Kinds that we may not see, or that the cluster may lack."""
SELECTORS: Mapping[str, str] = {"OPTTraining": "", "OPTServe": "", "Node": ""}
NOT_KEPT = frozenset({*UNSAID, "status"})
"""Parts of children."""
KEPT_OF_METADATA = ("name", "namespace", "labels", "annotations", "ownerReferences")
Name = tuple[str, str]
Heard = Callable[[str, Any], None]
log = structlog.get_logger(__name__)


def view_of(kind: str, document: dict[str, Any]) -> Any:
    """The narrow view of an object."""
    if kind in VIEWS:
        return VIEWS[kind].model_validate(document)
    meta = document["metadata"]
    kept = {part: value for part, value in document.items() if part not in NOT_KEPT}
    kept["metadata"] = {part: meta[part] for part in KEPT_OF_METADATA if part in meta}
    text = json.dumps(kept, separators=(",", ":")).encode()
    return Child.model_validate({"metadata": meta, "kind": kind, "text": text})


@dataclass
class Store:
    """Objects of one kind.

    Attributes:
        objects: By namespace and name.
        by_owner: Names of the objects of a resource of ours.
        by_node: Names of the pods on a node.
        gone: Uids of objects that were deleted lately.
        changes: How many there were.
    """

    kind: str
    objects: dict[Name, Any] = field(default_factory=dict)
    by_owner: defaultdict[Key, set[Name]] = field(default_factory=lambda: defaultdict(set))
    by_node: defaultdict[str, set[Name]] = field(default_factory=lambda: defaultdict(set))
    gone: deque[str] = field(default_factory=lambda: deque(maxlen=GONE_KEPT))
    changes: int = 0

    def put(self, item: Any) -> None:
        """A new or changed object; an older version of a known one is ignored."""
        name = (item.metadata.namespace, item.metadata.name)
        old = self.objects.get(name)
        if old is not None and newer(old.metadata.resource_version, item.metadata.resource_version):
            return
        self.objects[name] = item
        self.changes += 1
        if key := owner_of(self.kind, item):
            self.by_owner[key].add(name)
        if self.kind == "Pod" and item.spec.node_name:
            self.by_node[item.spec.node_name].add(name)

    def drop(self, item: Any) -> None:
        """An object is gone."""
        name = (item.metadata.namespace, item.metadata.name)
        if self.objects.pop(name, None) is not None:
            self.changes += 1
            self.gone.append(item.metadata.uid)
        if key := owner_of(self.kind, item):
            self.by_owner[key].discard(name)
        if self.kind == "Pod":
            self.by_node[item.spec.node_name].discard(name)

    def of(self, key: Key) -> tuple[Any, ...]:
        """A resource's objects."""
        return tuple(self.objects[name] for name in sorted(self.by_owner.get(key, ())) if name in self.objects)


def owner_of(kind: str, item: Any) -> Key | None:
    """Which resource of ours an object belongs to; None for none."""
    meta = item.metadata
    if kind in names.OWNERS:
        return Key(meta.namespace, meta.name, kind)  # type: ignore[arg-type]
    for owner, label in names.OWNERS.items():
        if found := meta.labels.get(label):
            return Key(meta.namespace, found, owner)  # type: ignore[arg-type]
    return None


def alike(one: NodeView, other: NodeView) -> bool:
    """Whether a node is as it was, as far as anything is decided on it: kubelets say again and again that they live."""
    same = one.verdict == other.verdict and one.hardware == other.hardware
    return same and one.spec == other.spec and one.metadata.labels == other.metadata.labels


def newer(one: str, other: str) -> bool:
    """Whether a resource version is newer than another of the same kind (their order is part of the API since 1.35)."""
    return one.isdecimal() and other.isdecimal() and int(one) > int(other)


class Reflector:
    """Keeps one kind of one namespace (or of all) up to date."""

    def __init__(self, kube: Kube, kind: str, namespace: str | None, store: Store, heard: Heard) -> None:
        self.kind, self.namespace = kind, namespace
        self._kube, self._store, self._heard = kube, store, heard
        self._selector = SELECTORS.get(kind, names.SELECTOR)
        self.synced = asyncio.Event()
        self.allowed = True
        self.last_s = asyncio.get_running_loop().time()
        self._failures = 0

    async def run(self) -> None:
        """List, watch, and begin again whenever that ends."""
        while True:
            try:
                version = await self._list()
                while True:
                    version = await self._watch(version)
            except ApiFault as fault:
                await self._rest(fault)
            except ValidationError as fault:
                log.error("an object cannot be read", kind=self.kind, fault=str(fault))  # noqa: TRY400 - no traceback
                await self._rest(ApiFault(0, "unreadable"))

    def silence_s(self) -> float:
        """Since anything was heard."""
        return asyncio.get_running_loop().time() - self.last_s

    async def _list(self) -> str:
        view = partial(view_of, self.kind)
        views, version = await self._kube.list(self.kind, self.namespace, self._selector, view)
        fresh = {(v.metadata.namespace, v.metadata.name): v for v in views}
        for name, old in list(self._store.objects.items()):
            if name not in fresh and self.namespace in (None, name[0]):
                self._store.drop(old)
                self._heard(self.kind, old)
        for name, item in fresh.items():
            old = self._store.objects.get(name)
            self._store.put(item)
            if old is None or old.metadata.resource_version != item.metadata.resource_version:
                self._heard(self.kind, item)
        self._failures, self.allowed = 0, True
        self._mark()
        self.synced.set()
        return version

    async def _watch(self, version: str) -> str:
        async for what, document in self._kube.watch(self.kind, self.namespace, self._selector, version):
            self._mark()
            if what == "ERROR":
                raise ApiFault(int(document.get("code", 0)), str(document.get("message")))
            version = document["metadata"]["resourceVersion"]
            if what != "BOOKMARK":
                self._take(what, view_of(self.kind, document))
        return version

    def _take(self, what: str, item: Any) -> None:
        old = self._store.objects.get((item.metadata.namespace, item.metadata.name))
        if what == "DELETED":
            self._store.drop(item)
        else:
            self._store.put(item)
        if what != "MODIFIED" or old is None or self.kind != "Node" or not alike(old, item):
            self._heard(self.kind, item)

    async def _rest(self, fault: ApiFault) -> None:
        self._failures += 1
        wait = min(RETRY_S * 2 ** min(self._failures, 8), RETRY_LIMIT_S) * random.uniform(0.5, 1.0)
        known = self.allowed
        if fault.status in (401, 403, 404):
            self.allowed = False
            wait = self._do_without(fault) if self.kind in OPTIONAL else wait
        if fault.status == 410:
            wait = 0.0
        if known or self.kind not in OPTIONAL:
            log.warning("watch ended", kind=self.kind, namespace=self.namespace, fault=str(fault), again_in_s=wait)
        await asyncio.sleep(max(wait, fault.retry_after_s))

    def _do_without(self, fault: ApiFault) -> float:
        """Nothing waits for what may be missing; what the cluster lacks is gone. Seconds until the next look."""
        self.synced.set()
        for item in list(self._store.objects.values()) if fault.status == 404 else ():
            self._store.drop(item)
            self._heard(self.kind, item)
        return FORBIDDEN_S

    def _mark(self) -> None:
        self.last_s = asyncio.get_running_loop().time()


class Cache:
    """All kinds.

    Args:
        kube: Where from.
        namespaces: Which; empty for all.
        heard: Called with kind and object for whatever changed.
    """

    def __init__(self, kube: Kube, namespaces: Iterable[str], heard: Heard) -> None:
        self.stores = {kind: Store(kind) for kind in KINDS}
        self._nodes: tuple[int, Mapping[str, NodeView]] | None = None
        spaces: list[str | None] = list(namespaces) or [None]
        self.reflectors = [
            Reflector(kube, kind, space, self.stores[kind], heard)
            for kind in KINDS
            for space in (spaces if kind != "Node" else [None])
        ]

    async def run(self) -> None:
        """Keep everything up to date until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self.reflectors:
                group.create_task(reflector.run())

    async def wait_synced(self) -> None:
        """Until everything was listed once."""
        for reflector in self.reflectors:
            await reflector.synced.wait()

    @property
    def sees_nodes(self) -> bool:
        """Whether we may look at nodes."""
        return all(r.allowed for r in self.reflectors if r.kind == "Node")

    def object(self, kind: str, namespace: str, name: str) -> Any:
        """One object, or None."""
        return self.stores[kind].objects.get((namespace, name))

    @property
    def nodes(self) -> Mapping[str, NodeView]:
        """All nodes by name: one mapping for all who ask until a node changes."""
        store = self.stores["Node"]
        if self._nodes is None or self._nodes[0] != store.changes:
            self._nodes = (store.changes, {name: node for (_, name), node in store.objects.items()})
        return self._nodes[1]

    def terms(self) -> list[int]:
        """Fencing tokens that the statuses of all resources carry."""
        found = [
            item.status.get("operatorTerm") for kind in names.OWNERS for item in self.stores[kind].objects.values()
        ]
        return [term for term in found if isinstance(term, int)]

    def on_node(self, node: str) -> set[Key]:
        """Whose pods are on a node."""
        store = self.stores["Pod"]
        owners = (owner_of("Pod", store.objects[name]) for name in store.by_node.get(node, ()))
        return {owner for owner in owners if owner is not None}

    def resources(self, kind: str) -> set[Key]:
        """Every training, or every served model, that there is."""
        return {key for key, held in self.stores[kind].by_owner.items() if held}

    def of(self, kind: str, key: Key) -> tuple[Any, ...]:
        """A resource's objects of one kind."""
        return self.stores[kind].of(key)

    def owners(self) -> set[Key]:
        """Every resource of ours that there is, or of which anything is left."""
        stores = [store for store in self.stores.values() if store.kind != "Node"]
        return {key for store in stores for key, held in store.by_owner.items() if held}
