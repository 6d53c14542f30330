"""The model's other half on a real API server: it decides what is written, its answers are what is seen.

`objects` and `log` mirror the server. Neither controllers nor kubelets run: the world of the model plays them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from opt_operator.shell.kube import APPLY, MERGE, RESOURCES, ApiFault
from optcluster.api import Api, ApiError
from support.opmodel.api import ModelApi, Object, T, copied

JSON = "application/json"
KINDS = ("OPTTraining", "Pod", "Job", "ConfigMap", "Service", "NetworkPolicy", "PodDisruptionBudget", "Event", "Node")


class LiveApi(ModelApi):
    """A real server, and what it holds of the kinds that the operator knows.

    Args:
        server: As administrator.
        namespace: Everything but nodes is here.
    """

    def __init__(self, server: Api, namespace: str) -> None:
        super().__init__(now=datetime.now(UTC))
        self._server, self._namespace = server, namespace

    def advance(self) -> None:
        """A second passes, or more where the server's own clock is ahead: it stamps deletions."""
        super().advance()
        self.now = max(self.now, datetime.now(UTC))

    # what the operator calls

    async def list(
        self, kind: str, namespace: str | None, selector: str, read: Callable[[Object], T]
    ) -> tuple[list[T], str]:
        if kind not in KINDS:
            return [], str(self.version)
        query = urlencode({"labelSelector": selector}) if selector else ""
        found = self._ask("GET", f"{self._path(kind)}?{query}")
        return [read(item) for item in found["items"]], found["metadata"]["resourceVersion"]

    async def get(self, kind: str, namespace: str | None, name: str) -> Object:
        return self._ask("GET", self._path(kind, name))

    async def create(self, kind: str, document: Object) -> Object:
        name = document["metadata"]["name"]
        return self._written(f"create {kind} {name}", lambda: self._do(kind, "POST", self._path(kind), document))

    async def replace(self, kind: str, document: Object) -> Object:
        name = document["metadata"]["name"]
        return self._written(f"replace {kind} {name}", lambda: self._do(kind, "PUT", self._path(kind, name), document))

    async def apply(self, kind: str, document: Object, manager: str, sub: str = "") -> Object:
        name = document["metadata"]["name"]
        path = f"{self._path(kind, name, sub)}?fieldManager={manager}&force=true"
        return self._written(f"apply {kind} {name} {manager}", lambda: self._do(kind, "PATCH", path, document, APPLY))

    async def merge(self, kind: str, document: Object, manager: str) -> Object:
        path = self._path(kind, document["metadata"]["name"])
        what = f"merge {kind} {document['metadata']['name']} {manager}"
        return self._written(what, lambda: self._do(kind, "PATCH", path, document, MERGE))

    async def delete(self, kind: str, namespace: str, name: str, uid: str, grace_s: int | None) -> None:
        body: Object = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        body |= {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        path = self._path(kind, name)
        self._written(f"delete {kind} {name} {grace_s}", lambda: self._do(kind, "DELETE", path, body))

    # what the world does

    def put_new(self, kind: str, document: Object) -> Object:
        made = self._do(kind, "POST", self._path(kind), {key: v for key, v in document.items() if key != "status"})
        if "status" in document:
            self.edit(kind, self._namespace, made["metadata"]["name"], lambda o: o.update(status=document["status"]))
        return made

    def edit(self, kind: str, namespace: str, name: str, change: Callable[[Object], None]) -> None:
        old = self._ask("GET", self._path(kind, name))
        fresh = copied(old)
        change(fresh)
        node = fresh.get("spec", {}).get("nodeName")
        if kind == "Pod" and node and not old["spec"].get("nodeName"):
            self._do(kind, "POST", self._path(kind, name, "binding"), _binding(name, node))
        elif _without_status(fresh) != _without_status(old):
            self._do(kind, "PUT", self._path(kind, name), fresh)
        if fresh.get("status") != old.get("status"):
            told = {**self._ask("GET", self._path(kind, name)), "status": _as_the_controller(kind, fresh)}
            self._do(kind, "PUT", self._path(kind, name, "status"), told)

    def remove(self, kind: str, namespace: str, name: str, grace_s: int | None = 0) -> None:
        body: Object = {"propagationPolicy": "Background"} | (
            {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        )
        try:
            self._do(kind, "DELETE", self._path(kind, name), body)
        except ApiFault as fault:
            if fault.status != 404:
                raise

    def clear(self) -> None:
        """Take everything away."""
        for kind in KINDS:
            self._mirror(kind)
        for kind, namespace, name in list(self.objects):
            self.remove(kind, namespace, name, 0)

    def _do(self, kind: str, verb: str, path: str, body: Object, content: str = JSON) -> Object:
        answer = self._ask(verb, path, body, content)
        self._mirror(kind)
        return answer

    def _ask(self, verb: str, path: str, body: Any = None, content: str = JSON) -> Object:
        try:
            found: Object = json.loads(self._server.request(verb, path, body, content))
        except ApiError as error:
            raise ApiFault(error.status, str(error)) from error
        except OSError as error:
            raise ApiFault(0, str(error)) from error
        return found

    def _mirror(self, kind: str) -> None:
        """What changed since the last look goes into the log, oldest first."""
        found = self._ask("GET", self._path(kind))
        now = {self._name(kind, o): self._typed(kind, o) for o in found["items"]}
        before = {name: o for name, o in self.objects.items() if name[0] == kind}
        for name in before.keys() - now.keys():
            gone = self.objects.pop(name)
            gone["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
            self._log("DELETED", kind, gone)
        changed = [n for n in now if n not in before or _version(now[n]) != _version(before[n])]
        for name in sorted(changed, key=lambda n: int(_version(now[n]))):
            self.objects[name] = now[name]
            self._log("MODIFIED" if name in before else "ADDED", kind, now[name])

    def _path(self, kind: str, name: str = "", sub: str = "") -> str:
        return RESOURCES[kind].path(self._namespace, name, sub)

    @staticmethod
    def _name(kind: str, document: Object) -> tuple[str, str, str]:
        return kind, document["metadata"].get("namespace", ""), document["metadata"]["name"]

    @staticmethod
    def _typed(kind: str, document: Object) -> Object:
        """Items of a list come without their kind."""
        root = RESOURCES[kind].root
        return {"apiVersion": root.removeprefix("/apis/").removeprefix("/api/"), "kind": kind, **document}


def _version(document: Object) -> str:
    return str(document["metadata"]["resourceVersion"])


def _without_status(document: Object) -> Object:
    return {key: value for key, value in document.items() if key != "status"}


def _binding(pod: str, node: str) -> Object:
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    return {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": target}


def _as_the_controller(kind: str, document: Object) -> Object:
    """A status as the server lets it pass: a Job that is over says when it began and which indexes are done."""
    status: Object = document["status"]
    if kind != "Job" or not status.get("conditions"):
        return status
    (condition,) = status["conditions"]
    count = document["spec"]["completions"]
    began = document["metadata"]["creationTimestamp"]
    first = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[condition["type"]]
    made: Object = {"startTime": began, "conditions": [{**condition, "type": first}, condition]}
    if condition["type"] == "Complete":
        done = "0" if count == 1 else f"0-{count - 1}"
        made |= {"completionTime": began, "succeeded": count, "completedIndexes": done}
    return made
