"""A small client of the API server: JSON over HTTPS with a client certificate, nothing cached, nothing hidden."""

import base64
import http.client
import json
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import yaml

Object = dict[str, Any]
FIELD_MANAGER = "optcluster"


class ApiError(Exception):
    """The API server said no."""

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{method} {path}: {status} {_message(body)}")
        self.status = status
        self.body = body


class Api:
    """The API server that one kubeconfig leads to."""

    def __init__(self, server: str, context: ssl.SSLContext, timeout_s: float = 15.0) -> None:
        url = urlsplit(server)
        self.server, self._context, self._timeout = server, context, timeout_s
        self._host, self._port = url.hostname or "", url.port or 443
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}

    @classmethod
    def from_kubeconfig(cls, path: Path, timeout_s: float = 15.0) -> Self:
        """Reads a kubeconfig whose current user has a client certificate or a token."""
        document = yaml.safe_load(path.read_text())
        wanted = next(c for c in document["contexts"] if c["name"] == document["current-context"])["context"]
        cluster = next(c for c in document["clusters"] if c["name"] == wanted["cluster"])["cluster"]
        user = next(u for u in document["users"] if u["name"] == wanted["user"])["user"]
        context = ssl.create_default_context(cadata=_pem(cluster, "certificate-authority", path))
        with tempfile.TemporaryDirectory() as folder:
            cert, key = Path(folder) / "cert", Path(folder) / "key"
            key.touch(mode=0o600)
            cert.write_text(_pem(user, "client-certificate", path))
            key.write_text(_pem(user, "client-key", path))
            context.load_cert_chain(cert, key)
        return cls(cluster["server"], context, timeout_s)

    def connect(self) -> ssl.SSLSocket:
        """A fresh connection that speaks as the kubeconfig's user and waits for answers without limit."""
        raw = socket.create_connection((self._host, self._port), timeout=self._timeout)
        connection = self._context.wrap_socket(raw, server_hostname=self._host)
        connection.settimeout(None)
        return connection

    def request(self, method: str, path: str, body: Any = None, content: str = "application/json") -> str:
        """One request; returns the body.

        Raises:
            ApiError: the server answered with an error status.
            OSError: there was no answer.
        """
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)
        try:
            given = None if body is None else json.dumps(body)
            connection.request(method, path, body=given, headers={"Content-Type": content})
            response = connection.getresponse()
            text: str = response.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise ApiError(method, path, response.status, text)
        return text

    def get(self, path: str, **query: str) -> Object:
        """One object or list by its path, as in `/api/v1/nodes/node-1`."""
        found: Object = json.loads(self.request("GET", path + _query(query)))
        return found

    def items(self, path: str, **query: str) -> list[Object]:
        """The items of a list."""
        return list(self.get(path, **query)["items"])

    def create(self, path: str, document: Object) -> Object:
        """Creates an object in the collection `path`."""
        made: Object = json.loads(self.request("POST", path, document))
        return made

    def patch(self, path: str, document: Object) -> Object:
        """Merges `document` into an object."""
        made: Object = json.loads(self.request("PATCH", path, document, "application/merge-patch+json"))
        return made

    def delete(self, path: str, grace_s: int | None = None) -> None:
        """Deletes an object; that it is not there is fine."""
        options = {} if grace_s is None else {"gracePeriodSeconds": str(grace_s)}
        try:
            self.request("DELETE", path + _query(options))
        except ApiError as error:
            if error.status != 404:
                raise

    def apply(self, *documents: Object) -> list[Object]:
        """Server-side apply of whole objects of any kind."""
        return [self._apply_one(document) for document in documents]

    def apply_file(self, path: Path) -> list[Object]:
        """Applies every document of a YAML file."""
        return self.apply(*(document for document in yaml.safe_load_all(path.read_text()) if document))

    def path_of(self, document: Object) -> str:
        """The path of an object, by what discovery says about its kind."""
        version, metadata = document["apiVersion"], document["metadata"]
        plural, namespaced = self._discover(version, document["kind"])
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        inside = f"/namespaces/{metadata.get('namespace', 'default')}" if namespaced else ""
        return f"{root}{inside}/{plural}/{metadata['name']}"

    def _apply_one(self, document: Object) -> Object:
        path = self.path_of(document) + _query({"fieldManager": FIELD_MANAGER, "force": "true"})
        made: Object = json.loads(self.request("PATCH", path, document, "application/apply-patch+yaml"))
        return made

    def _discover(self, version: str, kind: str) -> tuple[str, bool]:
        if (version, kind) not in self._kinds:
            root = f"/apis/{version}" if "/" in version else f"/api/{version}"
            for resource in self.get(root)["resources"]:
                if "/" not in resource["name"]:
                    self._kinds[version, resource["kind"]] = (resource["name"], resource["namespaced"])
        return self._kinds[version, kind]


def is_true(found: Object, kind: str) -> bool:
    """Whether the object's status holds the condition `kind` with the value True; a new object has no status yet."""
    conditions = found.get("status", {}).get("conditions") or []
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)


def _query(values: dict[str, str]) -> str:
    return "?" + urlencode(values) if values else ""


def _pem(entry: Object, name: str, base: Path) -> str:
    if f"{name}-data" in entry:
        return base64.b64decode(str(entry[f"{name}-data"])).decode()
    return base.parent.joinpath(str(entry[name])).read_text()


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:500]
