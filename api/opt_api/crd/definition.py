"""A whole CustomResourceDefinition from a resource model."""

from __future__ import annotations

from typing import Any

from opt_api.base import GROUP, VERSION
from opt_api.crd.columns import COLUMNS, Column
from opt_api.crd.immutability import add_fixed
from opt_api.crd.structural import Schema, structural
from opt_api.resources import OPTServe, OPTTraining
from opt_api.shapes import Shape, shape_of

CATEGORY = "opt"
SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}


def definition(resource: type[OPTTraining | OPTServe]) -> dict[str, Any]:
    """The CRD of a resource, ready to be written as YAML."""
    kind = resource.__name__
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": resource.plural,
                "singular": kind.lower(),
                "shortNames": list(resource.short_names),
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [_column(column) for column in COLUMNS[kind]],
                    "subresources": {"status": {}} | ({"scale": SCALE} if resource is OPTServe else {}),
                    "schema": {"openAPIV3Schema": root_schema(shape_of(resource))},
                }
            ],
        },
    }


def root_schema(shape: Shape) -> Schema:
    """The schema of the resource: our spec and status, Kubernetes' own head."""
    parts = shape.properties
    spec = structural(parts["spec"])
    add_fixed(spec, parts["spec"], parts["spec"].change or "identity")
    return {
        "type": "object",
        "description": shape.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": structural(parts["metadata"].properties["name"])}},
            "spec": spec,
            "status": structural(parts["status"], defaults=False),
        },
    }


def _column(column: Column) -> dict[str, Any]:
    values = {"name": column.name, "type": column.type, "jsonPath": column.path, "description": column.description}
    return values | ({"priority": column.priority} if column.priority else {})
