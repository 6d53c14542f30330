"""A shape as a structural OpenAPI schema: what the API server checks, fills in and keeps."""

from __future__ import annotations

from typing import Any

from opt_api.crd.rules import key_rules, rules_of
from opt_api.shapes import MISSING, Shape

Schema = dict[str, Any]
_TYPES = {
    "object": "object",
    "map": "object",
    "list": "array",
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
}
MAX_INT32 = 2**31 - 1


def structural(shape: Shape, *, defaults: bool = True) -> Schema:
    """The schema of a shape.

    Args:
        shape: the shape.
        defaults: whether defaults are filled in by the API server; a status has none.
    """
    schema: Schema = {"type": _TYPES[shape.kind]}
    if shape.description:
        schema["description"] = shape.description
    if defaults and shape.default is not MISSING and shape.default is not None:
        schema["default"] = _default(shape)
    schema |= _SCHEMAS.get(shape.kind, _scalar)(shape, defaults)
    validations = [*(key_rules(shape.keys) if shape.keys else ()), *rules_of(shape)]
    if validations:
        schema["x-kubernetes-validations"] = validations
    return schema


def _default(shape: Shape) -> Any:
    """The API server runs CEL over a default before it fills in those below: what rules read must stand in it."""
    if shape.kind != "object" or not shape.rules:
        return shape.default
    filled = {name: part.default for name, part in shape.properties.items() if part.default not in (MISSING, None)}
    return filled | shape.default


def _object(shape: Shape, defaults: bool) -> Schema:
    required = [name for name, part in shape.properties.items() if part.required]
    parts = {name: structural(part, defaults=defaults) for name, part in shape.properties.items()}
    return {"properties": parts} | ({"required": required} if required else {})


def _map(shape: Shape, defaults: bool) -> Schema:
    assert shape.items is not None
    schema: Schema = {"additionalProperties": structural(shape.items, defaults=defaults)}
    return schema | _given(minProperties=shape.min_length, maxProperties=shape.max_length)


def _list(shape: Shape, defaults: bool) -> Schema:
    assert shape.items is not None
    schema: Schema = {"items": structural(shape.items, defaults=defaults), "x-kubernetes-list-type": "atomic"}
    if shape.unique and shape.unique.key:
        schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [shape.unique.key]}
    elif shape.unique:
        schema["x-kubernetes-list-type"] = "set"
    return schema | _given(minItems=shape.min_length, maxItems=shape.max_length)


def _scalar(shape: Shape, _defaults: bool) -> Schema:
    if shape.enum:
        return {"enum": list(shape.enum)}
    schema = _given(
        minimum=shape.minimum,
        maximum=shape.maximum,
        minLength=shape.min_length,
        maxLength=shape.max_length,
        pattern=shape.pattern,
        format=shape.format or None,
    )
    if shape.exclusive_minimum:
        schema["exclusiveMinimum"] = True
    if shape.exclusive_maximum:
        schema["exclusiveMaximum"] = True
    if shape.kind == "integer":
        schema["format"] = "int32" if shape.maximum is not None and shape.maximum <= MAX_INT32 else "int64"
    return schema


def _given(**values: Any) -> Schema:
    return {name: value for name, value in values.items() if value is not None}


_SCHEMAS = {"object": _object, "map": _map, "list": _list}
