"""The two judges of a document: our own, and a real API server by dry run."""

from __future__ import annotations

import http.client
import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opt_api.base import API_VERSION
from opt_api.change_rules import refused
from opt_api.parsing import parse_mapping
from opt_api.problems import Problems
from opt_api.resources import KINDS, Resource
from opt_api.shapes import shape_of
from optcluster.api import Api

Document = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Whether a document is accepted, and if not, which fields are named and what is said."""

    accepted: bool
    fields: frozenset[str] = frozenset()
    message: str = ""


ACCEPTED = Verdict(accepted=True)


def ours(document: Document, stored: Resource | None = None) -> Verdict:
    """Our verdict on making the resource, or on changing the stored one."""
    try:
        new = parse_mapping(document)
    except Problems as problems:
        return Verdict(False, frozenset(item.path for item in problems.items), str(problems))
    if stored is None:
        return ACCEPTED
    inherited = shape_of(type(new)).properties["spec"].change or "identity"
    changed = refused(stored.spec, new.spec, inherited)
    return Verdict(not changed, frozenset(f"spec.{item.field}" for item in changed), f"changed: {changed}")


class ApiServer:
    """One open connection to an API server; every request is a dry run with strict field validation."""

    QUERY = "?dryRun=All&fieldValidation=Strict"

    def __init__(self, api: Api, kubeconfig: Path, namespace: str = "default") -> None:
        self.kubeconfig = kubeconfig
        self._api, self._namespace = api, namespace
        self._connection = http.client.HTTPConnection("api", timeout=30)
        self._connection.sock = api.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body go in two writes

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def on_create(self, document: Document) -> Verdict:
        """The server's verdict on making the resource."""
        return self._judge("POST", self._path(document) + self.QUERY, document)

    def on_update(self, document: Document, stored: Document, subresource: str = "") -> Verdict:
        """The server's verdict on replacing the stored resource, or its `/status`."""
        head = {**document["metadata"], "resourceVersion": stored["metadata"]["resourceVersion"]}
        path = f"{self._path(document)}/{stored['metadata']['name']}{subresource}{self.QUERY}"
        return self._judge("PUT", path, {**document, "metadata": head})

    def store(self, document: Document) -> Document:
        """Make a resource for good; the answer has its resource version and all defaults."""
        return self._api.create(self._path(document), document)

    def replace(self, document: Document, subresource: str) -> Document:
        """Replace a subresource for good; `document` is as stored but for what changes."""
        path = f"{self._path(document)}/{document['metadata']['name']}{subresource}"
        changed: Document = json.loads(self._api.request("PUT", path, document))
        return changed

    def _path(self, document: Document) -> str:
        return f"/apis/{API_VERSION}/namespaces/{self._namespace}/{KINDS[document['kind']].plural}"

    def _judge(self, method: str, path: str, document: Document) -> Verdict:
        self._connection.request(method, path, json.dumps(as_sent(document)), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        if response.status < 300:
            return ACCEPTED
        assert response.status in (400, 422), f"{method} {path}: {response.status} {answer}"
        causes = answer.get("details", {}).get("causes", [])
        return Verdict(
            False, frozenset({cause["field"] for cause in causes} | named(answer["message"])), answer["message"]
        )


def named(message: str) -> set[str]:
    """Fields that a message names where the answer has no causes: unknown ones, and wrong types in the metadata."""
    head = re.findall(r"Go struct field ObjectMeta\.(?:metadata\.)?(\w+)", message)
    return set(re.findall(r'field "([^"]+)"', message)) | {f"metadata.{name}" for name in head}


def as_sent(value: Any) -> Any:
    """The value as kubectl and every Go client send it: 3.0 as 3.

    The API server itself takes a raw 3.0 for a whole number too, but its rules then fail on it.
    """
    if isinstance(value, dict):
        return {key: as_sent(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_sent(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def disagreement(mine: Verdict, theirs: Verdict) -> str:
    """What the two judges do not agree on; nothing when they do."""
    if mine.accepted != theirs.accepted:
        return f"ours {'accepts' if mine.accepted else f'refuses ({mine.message})'}; the API server {theirs}"
    if not mine.accepted and not any(_related(a, b) for a in mine.fields for b in theirs.fields):
        return f"different fields: ours {sorted(mine.fields)}; the API server {sorted(theirs.fields)}: {theirs.message}"
    return ""


def _related(one: str, other: str) -> bool:
    """Whether two paths are the same, or one lies in the other."""
    shorter, longer = sorted((one, other), key=len)
    return longer == shorter or (longer.startswith(shorter) and longer[len(shorter)] in ".[")
