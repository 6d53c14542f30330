"""An API server in memory: versions, server-side apply, preconditions, grace, owners and their garbage, watches."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from opt_operator.shell.kube import ApiFault

Object = dict[str, Any]
Name = tuple[str, str, str]
T = TypeVar("T")
START = datetime(2026, 1, 1, tzinfo=UTC)
NODE_WIDE = ("Node",)


def copied(value: Any) -> Any:
    """A JSON value with nothing shared; much faster than `copy.deepcopy`, which looks for cycles."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


class Died(BaseException):
    """The operator was killed here."""


@dataclass
class ModelApi:
    """Objects by kind, namespace and name; a log of all that happened.

    `before_write` and `after_write` are called around each write with its description, and may raise.
    """

    now: datetime = START
    clock: int = 0
    version: int = 0
    objects: dict[Name, Object] = field(default_factory=dict)
    log: list[tuple[int, str, str, Object]] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    before_write: Callable[[str], None] = lambda _: None
    after_write: Callable[[str], None] = lambda _: None
    ticks: dict[int, int] = field(default_factory=dict)
    """Second in which each entry of the log was made."""
    _uids: int = 0

    # what the operator calls

    async def list(
        self, kind: str, namespace: str | None, selector: str, read: Callable[[Object], T]
    ) -> tuple[list[T], str]:
        found = [o for (k, _, _), o in self.objects.items() if k == kind and _selected(o, selector)]
        listed = copied(found)
        for item in listed:  # as a real server's list has them
            item.pop("kind", None)
            item.pop("apiVersion", None)
        return [read(item) for item in listed], str(self.version)

    async def watch(
        self, kind: str, namespace: str | None, selector: str, version: str
    ) -> AsyncIterator[tuple[str, Object]]:
        raise NotImplementedError("the harness delivers events itself")
        yield "", {}

    async def get(self, kind: str, namespace: str | None, name: str) -> Object:
        return copied(self._found(kind, namespace or "", name))

    async def create(self, kind: str, document: Object) -> Object:
        return self._written(f"create {kind} {document['metadata']['name']}", lambda: self.put_new(kind, document))

    async def replace(self, kind: str, document: Object) -> Object:
        meta = document["metadata"]

        def act() -> Object:
            old = self._found(kind, meta["namespace"], meta["name"])
            if old["metadata"]["resourceVersion"] != meta["resourceVersion"]:
                raise ApiFault(409, "the object has been modified")
            return self.save(kind, document)

        return self._written(f"replace {kind} {meta['name']}", act)

    async def apply(self, kind: str, document: Object, manager: str, sub: str = "") -> Object:
        meta = document["metadata"]

        def act() -> Object:
            old = self.objects.get((kind, meta["namespace"], meta["name"]))
            wanted = meta.get("resourceVersion")
            if wanted and (old is None or old["metadata"]["resourceVersion"] != wanted):
                raise ApiFault(409, "the object has been modified")
            if old is None:
                return self.put_new(kind, document)
            fresh = copied(old)
            if sub == "status":
                fresh["status"] = copied(document["status"])
            else:
                _merge(fresh, {k: v for k, v in document.items() if k != "metadata"})
                for part in ("labels", "annotations", "ownerReferences"):
                    if part in meta:
                        _merge(fresh["metadata"], {part: meta[part]})
            return copied(old) if fresh == old else self.save(kind, fresh)

        return self._written(f"apply {kind} {meta['name']} {manager}", act)

    async def merge(self, kind: str, document: Object, manager: str) -> Object:
        meta = document["metadata"]

        def act() -> Object:
            old = self._found(kind, meta.get("namespace", ""), meta["name"])
            if old["metadata"]["resourceVersion"] != meta["resourceVersion"]:
                raise ApiFault(409, "the object has been modified")
            fresh = copied(old)
            _merge(fresh, {key: value for key, value in document.items() if key != "metadata"})
            _merge(fresh["metadata"].setdefault("annotations", {}), meta.get("annotations", {}))
            return self.save(kind, fresh)

        return self._written(f"merge {kind} {meta['name']} {manager}", act)

    async def delete(self, kind: str, namespace: str, name: str, uid: str, grace_s: int | None) -> None:
        def act() -> Object:
            old = self._found(kind, namespace, name)
            if old["metadata"]["uid"] != uid:
                raise ApiFault(409, "precondition failed: uid")
            self.remove(kind, namespace, name, grace_s)
            return old

        self._written(f"delete {kind} {name} {grace_s}", act)

    # what the world does

    def put_new(self, kind: str, document: Object) -> Object:
        meta = document["metadata"]
        name = (kind, meta.get("namespace", ""), meta["name"])
        if name in self.objects:
            raise ApiFault(409, f"{kind} {meta['name']} already exists")
        self._uids += 1
        fresh = copied(document)
        fresh["metadata"] |= {"uid": str(uuid.UUID(int=self._uids)), "generation": 1, "creationTimestamp": self.stamp()}
        return self.save(kind, fresh, "ADDED")

    def save(self, kind: str, document: Object, what: str = "MODIFIED") -> Object:
        meta = document["metadata"]
        name = (kind, meta.get("namespace", ""), meta["name"])
        old = self.objects.get(name)
        if old is not None and old.get("spec") != document.get("spec"):
            meta["generation"] = old["metadata"]["generation"] + 1
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        self.objects[name] = copied(document)
        self._log(what, kind, document)
        return copied(document)

    def edit(self, kind: str, namespace: str, name: str, change: Callable[[Object], None]) -> None:
        fresh = copied(self._found(kind, namespace, name))
        change(fresh)
        if fresh != self.objects[kind, namespace, name]:
            self.save(kind, fresh)

    def remove(self, kind: str, namespace: str, name: str, grace_s: int | None = 0) -> None:
        """A pod that runs goes gracefully, when its kubelet says so; everything else at once, children after it."""
        document = self.objects[kind, namespace, name]
        default = document.get("spec", {}).get("terminationGracePeriodSeconds", 30)
        grace = default if grace_s is None else grace_s
        if kind == "Pod" and grace and document.get("spec", {}).get("nodeName"):
            if "deletionTimestamp" not in document["metadata"]:
                fresh = copied(document)
                fresh["metadata"]["deletionTimestamp"] = self.stamp(timedelta(seconds=grace))
                self.save(kind, fresh)
            return
        del self.objects[kind, namespace, name]
        self.version += 1
        gone = copied(document)
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._log("DELETED", kind, gone)
        self._collect(document["metadata"]["uid"])

    def of(self, kind: str) -> list[Object]:
        return [document for (found, _, _), document in sorted(self.objects.items()) if found == kind]

    def advance(self) -> None:
        """A second passes."""
        self.now += timedelta(seconds=1)
        self.clock += 1

    def stamp(self, later: timedelta = timedelta()) -> str:
        return (self.now + later).isoformat().replace("+00:00", "Z")

    def _log(self, what: str, kind: str, document: Object) -> None:
        self.ticks[len(self.log)] = self.clock
        self.log.append((self.version, what, kind, copied(document)))

    def _collect(self, uid: str) -> None:
        for kind, namespace, name in list(self.objects):
            document = self.objects.get((kind, namespace, name))
            owners = document["metadata"].get("ownerReferences", []) if document else []
            if any(owner["uid"] == uid for owner in owners):
                self.remove(kind, namespace, name, None)

    def collect_orphans(self) -> None:
        """What has owners of which none is there any more goes, however it came to be."""
        uids = {document["metadata"]["uid"] for document in self.objects.values()}
        for kind, namespace, name in list(self.objects):
            document = self.objects.get((kind, namespace, name))
            owners = document["metadata"].get("ownerReferences", []) if document else []
            if owners and not any(owner["uid"] in uids for owner in owners):
                self.remove(kind, namespace, name, None)

    def _found(self, kind: str, namespace: str, name: str) -> Object:
        if (kind, namespace, name) not in self.objects:
            raise ApiFault(404, f"{kind} {name} not found")
        return self.objects[kind, namespace, name]

    def _written(self, what: str, act: Callable[[], Object]) -> Object:
        self.before_write(what)
        done = act()
        self.history.append(what)
        self.after_write(what)
        return done


def _merge(target: Object, source: Object) -> None:
    for key, value in source.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = copied(value)


def _selected(document: Object, selector: str) -> bool:
    if not selector:
        return True
    key, _, value = selector.partition("=")
    return document["metadata"].get("labels", {}).get(key) == value
