"""The API server, as the operator needs it: six calls. Kubernetes' own client does transport and identity.

Answers are read by pydantic's parser: twice as fast as the library's, and short strings that come again and again (the
same labels, conditions and reasons on thousands of objects) are one object each.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

import aiohttp
import kopf
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from pydantic_core import from_json

from opt_operator.core.serving.names import LEADER_WORKER_SETS
from opt_operator.shell.metrics import WRITES

Object = dict[str, Any]
APPLY, MERGE, JSON = "application/apply-patch+yaml", "application/merge-patch+json", "application/json"
REQUEST_S, CONNECT_S = 15.0, 5.0
WATCH_S = 240
"""The server ends a watch after so long; a new one goes on where it was."""
SILENCE_S = 100.0
"""A watch that brings nothing for so long, not even a bookmark, may be dead: another one takes its place."""
TOKEN_FOR = timedelta(minutes=5)
LINE_LIMIT = 16 << 20
PAGE = 250
"""Objects of a list that are held whole at once."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a kind is found."""

    root: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None, name: str = "", sub: str = "") -> str:
        """Path of a collection, an object, or a subresource."""
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{self.root}{inside}/{self.plural}" + (f"/{name}" if name else "") + (f"/{sub}" if sub else "")


RESOURCES: Mapping[str, Resource] = {
    "Pod": Resource("/api/v1", "pods"),
    "Node": Resource("/api/v1", "nodes", namespaced=False),
    "ConfigMap": Resource("/api/v1", "configmaps"),
    "Service": Resource("/api/v1", "services"),
    "Job": Resource("/apis/batch/v1", "jobs"),
    "NetworkPolicy": Resource("/apis/networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": Resource("/apis/policy/v1", "poddisruptionbudgets"),
    "Deployment": Resource("/apis/apps/v1", "deployments"),
    "LeaderWorkerSet": Resource(f"/apis/{LEADER_WORKER_SETS}/v1", "leaderworkersets"),
    "OPTTraining": Resource("/apis/opt-operator.io/v1alpha1", "opttrainings"),
    "OPTServe": Resource("/apis/opt-operator.io/v1alpha1", "optserves"),
    "Event": Resource("/apis/events.k8s.io/v1", "events"),
    "PodGroup": Resource("", "podgroups"),  # of the scheduler or of Volcano: each document says which
    "Lease": Resource("/apis/coordination.k8s.io/v1", "leases"),
}


LOOKED_INTO = frozenset({"scheduling.k8s.io/v1beta1"})
"""Versions of API groups that hold what we use only where a feature gate is on."""


def _resource(kind: str, document: Object) -> Resource:
    found = RESOURCES[kind]
    return found if found.root else Resource(f"/apis/{document['apiVersion']}", found.plural, found.namespaced)


class ApiFault(Exception):  # noqa: N818 - the server's word, which may well be expected
    """The API server said no, or nothing at all (status 0)."""

    def __init__(self, status: int, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message, self.retry_after_s = status, message, retry_after_s


class Kube(Protocol):
    """What the shell asks of the API server. `apply` takes over fields that others have set."""

    async def list(
        self, kind: str, namespace: str | None, selector: str, read: Callable[[Object], T]
    ) -> tuple[list[T], str]:
        """What is read of each of all objects, and the version of the list."""

    def watch(self, kind: str, namespace: str | None, selector: str, version: str) -> AsyncIterator[tuple[str, Object]]:
        """What happens after that version, until the server or the line ends it."""

    async def get(self, kind: str, namespace: str | None, name: str) -> Object:
        """One object."""

    async def create(self, kind: str, document: Object) -> Object:
        """A new object."""

    async def replace(self, kind: str, document: Object) -> Object:
        """A whole object at the version it carries."""

    async def apply(self, kind: str, document: Object, manager: str, sub: str = "") -> Object:
        """Server-side apply."""

    async def merge(self, kind: str, document: Object, manager: str) -> Object:
        """Change these fields of an object at the version it carries; lists are replaced whole."""

    async def delete(self, kind: str, namespace: str, name: str, uid: str, grace_s: int | None) -> None:
        """Delete exactly that object."""


class AioKube:
    """The real one."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    @classmethod
    async def connect(cls, kubeconfig: str | None) -> AioKube:
        """From a kubeconfig, or from the pod's own service account."""
        settings = Configuration()
        if kubeconfig:
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=kubeconfig, client_configuration=settings
            )
        else:
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        settings.connection_pool_maxsize = 64
        settings.retries = 0
        return cls(ApiClient(settings))

    async def connection(self) -> kopf.ConnectionInfo:
        """The same server and identity for kopf; asked for again before a token runs out."""
        settings = self._client.configuration
        token = await settings.get_api_key_with_prefix("BearerToken", alias="authorization")
        return kopf.ConnectionInfo(
            server=settings.host,
            ca_path=settings.ssl_ca_cert,
            insecure=not settings.verify_ssl,
            certificate_path=settings.cert_file,
            private_key_path=settings.key_file,
            token=token.rpartition(" ")[2] if token else None,  # it comes with "Bearer ", in a pod with "bearer "
            expiration=datetime.now(UTC) + TOKEN_FOR if token else None,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def list(
        self, kind: str, namespace: str | None, selector: str, read: Callable[[Object], T]
    ) -> tuple[list[T], str]:
        """What is read of each of all objects, a page at a time, and the version of the list."""
        items: list[T] = []
        query = {"labelSelector": selector, "limit": str(PAGE)}
        while True:
            page = await self._ask("GET", RESOURCES[kind].path(namespace), query)
            items += map(read, page["items"])
            more = page["metadata"].get("continue")
            if not more:
                return items, page["metadata"]["resourceVersion"]
            query = {**query, "continue": more}

    async def watch(
        self, kind: str, namespace: str | None, selector: str, version: str
    ) -> AsyncIterator[tuple[str, Object]]:
        """What happens after that version."""
        query = {
            "watch": "1", "labelSelector": selector, "resourceVersion": version, "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S),
        }  # fmt: skip
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        response = await self._send("GET", RESOURCES[kind].path(namespace), query, timeout=timeout)
        yield "BOOKMARK", {"metadata": {"resourceVersion": version}}  # the server has taken it
        try:
            buffer = bytearray()
            async for chunk in response.content.iter_any():
                buffer += chunk
                while (end := buffer.find(b"\n")) >= 0:
                    event = from_json(buffer[:end])
                    del buffer[: end + 1]
                    yield event["type"], event["object"]
                if len(buffer) > LINE_LIMIT:
                    raise ApiFault(0, f"watch of {kind}: a line of more than {LINE_LIMIT} bytes")
        except TimeoutError:
            return  # where nothing changes a server may say nothing at all: the next watch goes on from here
        except aiohttp.ClientError as fault:
            raise ApiFault(0, f"watch of {kind}: {fault!r}") from fault
        finally:
            response.close()

    async def get(self, kind: str, namespace: str | None, name: str) -> Object:
        """One object."""
        return await self._ask("GET", RESOURCES[kind].path(namespace, name))

    async def create(self, kind: str, document: Object) -> Object:
        """A new object."""
        path = _resource(kind, document).path(document["metadata"]["namespace"])
        return await self._write("POST", kind, path, {"fieldManager": "opt-workload"}, document)

    async def replace(self, kind: str, document: Object) -> Object:
        """A whole object at the version it carries."""
        meta = document["metadata"]
        path = RESOURCES[kind].path(meta["namespace"], meta["name"])
        return await self._write("PUT", kind, path, {"fieldManager": "opt-lease"}, document)

    async def apply(self, kind: str, document: Object, manager: str, sub: str = "") -> Object:
        """Server-side apply."""
        meta = document["metadata"]
        path = _resource(kind, document).path(meta["namespace"], meta["name"], sub)
        query = {"fieldManager": manager, "force": "true"}
        return await self._write("PATCH", kind, path, query, document, APPLY)

    async def merge(self, kind: str, document: Object, manager: str) -> Object:
        """Merge patch (RFC 7386)."""
        meta = document["metadata"]
        path = RESOURCES[kind].path(meta.get("namespace"), meta["name"])
        return await self._write("PATCH", kind, path, {"fieldManager": manager}, document, MERGE)

    async def delete(self, kind: str, namespace: str, name: str, uid: str, grace_s: int | None) -> None:
        """Delete exactly that object; children of a Job or a training follow in the background."""
        body: Object = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        await self._write("DELETE", kind, RESOURCES[kind].path(namespace, name), {}, body)

    async def groups(self) -> frozenset[str]:
        """API groups that the cluster has, their versions, and `RESOURCE.GROUP/VERSION` of what a version may lack."""
        found = await self._ask("GET", "/apis")
        names = {group["name"] for group in found["groups"]}
        versions = {version["groupVersion"] for group in found["groups"] for version in group["versions"]}
        parts: set[str] = set()
        for version in sorted(versions & LOOKED_INTO):
            listed = await self._ask("GET", f"/apis/{version}")
            parts |= {f"{resource['name']}.{version}" for resource in listed["resources"]}
        return frozenset(names | versions | parts)

    async def _write(
        self, verb: str, kind: str, path: str, query: dict[str, str], body: Object, content: str = JSON
    ) -> Object:
        try:
            found = await self._ask(verb, path, query, body, content)
        except ApiFault as fault:
            WRITES.labels(verb, kind, str(fault.status)).inc()
            raise
        WRITES.labels(verb, kind, "ok").inc()
        return found

    async def _ask(
        self, verb: str, path: str, query: dict[str, str] | None = None, body: Object | None = None, content: str = JSON
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=REQUEST_S, sock_connect=CONNECT_S)
        try:
            response = await self._send(verb, path, query, body, content, timeout)
            async with response:
                found: Object = from_json(await response.read())
                return found
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise ApiFault(0, f"{verb} {path}: {fault!r}") from fault

    async def _send(
        self, verb: str, path: str, query: dict[str, str] | None = None, body: Object | None = None,
        content: str = JSON, timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - the transport's own
    ) -> aiohttp.ClientResponse:  # fmt: skip
        settings = self._client.configuration
        headers = {"Content-Type": content, "Accept": JSON, "User-Agent": "opt-operator"}
        token = await settings.get_api_key_with_prefix("BearerToken", alias="authorization")
        if token:
            headers["authorization"] = token
        url = settings.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            send = self._client.rest_client.request
            answer = await send(verb, url, headers, body, _request_timeout=timeout)  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise ApiFault(0, f"{verb} {path}: {fault!r}") from fault
        response: aiohttp.ClientResponse = answer.response
        if response.status >= 400:
            raise await _fault(verb, path, response)
        return response


async def _fault(verb: str, path: str, response: aiohttp.ClientResponse) -> ApiFault:
    text = ""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        text = await response.text()
    response.close()
    try:
        message = from_json(text)["message"]
    except (ValueError, KeyError, TypeError):
        message = text[:500]
    after = response.headers.get("Retry-After", "0")
    return ApiFault(response.status, f"{verb} {path}: {message}", float(after) if after.isdecimal() else 0.0)
