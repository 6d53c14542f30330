"""JSON schemas of Kubernetes' kinds for kubeconform, from what an API server says of itself: nothing is downloaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from optcluster.api import Api

INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
REFERENCE = re.compile(r'"#/definitions/([^"]+)"')
PATTERN = "{{.ResourceKind}}-{{.ResourceAPIVersion}}-{{.Group}}.json"


def write_schemas(api: Api, folder: Path) -> str:
    """One file per kind, unknown fields refused; returns what kubeconform's `-schema-location` takes."""
    folder.mkdir()
    definitions: dict[str, Any] = api.get("/openapi/v2")["definitions"]
    for definition in definitions.values():
        if "properties" in definition:
            definition.setdefault("additionalProperties", False)
    definitions[INT_OR_STRING] = {"type": ["string", "integer"]}
    definitions[QUANTITY] = {"type": ["string", "number"]}
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            text = json.dumps({"$ref": f"#/definitions/{name}", "definitions": _closure(definitions, name)})
            group = kind["group"] or kind["version"]
            (folder / f"{kind['kind'].lower()}-{kind['version']}-{group}.json").write_text(text)
    return str(folder / PATTERN)


def _closure(definitions: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found[one] = definitions[one]
            waiting += REFERENCE.findall(json.dumps(definitions[one]))
    return found
