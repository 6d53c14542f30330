"""Kubeconfig files: who talks to which API server with which certificate."""

import base64
import json
from pathlib import Path
from typing import Any

from optcluster.pki import Authority, Pair


def write(path: Path, server: str, authority: Authority, pair: Pair) -> Path:
    """Writes a self-contained kubeconfig for `pair` (its certificate names the user) and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(_document(server, authority, pair), indent=1))  # JSON is YAML
    return path


def redirected(source: Path, target: Path, server: str) -> Path:
    """A copy of the kubeconfig `source` that goes to `server` instead, as through a fault proxy."""
    document = json.loads(source.read_text())
    document["clusters"][0]["cluster"]["server"] = server
    target.touch(mode=0o600)
    target.write_text(json.dumps(document, indent=1))
    return target


def _document(server: str, authority: Authority, pair: Pair) -> dict[str, Any]:
    cluster = {"server": server, "certificate-authority-data": _inline(authority.pair.cert)}
    user = {"client-certificate-data": _inline(pair.cert), "client-key-data": _inline(pair.key)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "opt", "cluster": cluster}],
        "users": [{"name": pair.cert.stem, "user": user}],
        "contexts": [{"name": "opt", "context": {"cluster": "opt", "user": pair.cert.stem}}],
        "current-context": "opt",
    }


def _inline(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
