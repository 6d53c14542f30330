"""A shape as JSON Schema (draft 2020-12), for readers of the documents in any language."""

from __future__ import annotations

from typing import Any

from opt_api.shapes import MISSING, Shape

Schema = dict[str, Any]
_TYPES = {"map": "object", "list": "array"}
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(title: str, shape: Shape) -> Schema:
    """The schema of one document."""
    return {"$schema": DIALECT, "title": title} | _schema(shape)


def _schema(shape: Shape) -> Schema:
    schema: Schema = {} if shape.kind == "any" else {"type": _TYPES.get(shape.kind, shape.kind)}
    if shape.description:
        schema["description"] = shape.description
    if shape.default is not MISSING and shape.default is not None:
        schema["default"] = shape.default
    schema |= _PARTS.get(shape.kind, _scalar)(shape)
    if shape.rules:
        schema["x-rules"] = [{"field": rule.field, "message": rule.message, "cel": rule.cel} for rule in shape.rules]
    return schema


def _object(shape: Shape) -> Schema:
    required = [name for name, part in shape.properties.items() if part.required]
    parts = {name: _schema(part) for name, part in shape.properties.items()}
    return {"additionalProperties": False, "properties": parts} | ({"required": required} if required else {})


def _map(shape: Shape) -> Schema:
    assert shape.items is not None
    assert shape.keys is not None
    schema = {"additionalProperties": _schema(shape.items)}
    if shape.keys.pattern:
        schema["propertyNames"] = _schema(shape.keys)
    return schema | _given(maxProperties=shape.max_length)


def _list(shape: Shape) -> Schema:
    assert shape.items is not None
    schema: Schema = {"items": _schema(shape.items)} | _given(minItems=shape.min_length, maxItems=shape.max_length)
    if shape.unique and shape.unique.key is None:
        schema["uniqueItems"] = True
    return schema


def _scalar(shape: Shape) -> Schema:
    if shape.enum:
        return {"enum": list(shape.enum)}
    low = "exclusiveMinimum" if shape.exclusive_minimum else "minimum"
    high = "exclusiveMaximum" if shape.exclusive_maximum else "maximum"
    return _given(
        **{low: shape.minimum, high: shape.maximum},
        minLength=shape.min_length,
        maxLength=shape.max_length,
        pattern=shape.pattern,
        format=shape.format or None,
    )


def _given(**values: Any) -> Schema:
    return {name: value for name, value in values.items() if value is not None}


_PARTS = {"object": _object, "map": _map, "list": _list}
