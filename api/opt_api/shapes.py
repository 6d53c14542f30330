"""The models read once into plain shapes, from which schemas, reference docs and messages are made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import StringConstraints
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from opt_api.base import Change, Model, Rule
from opt_api.lists import Unique

Kind = Literal["object", "map", "list", "string", "integer", "number", "boolean", "any"]
"""`any` is another program's JSON, passed through; the API server would not keep it, so a CRD has none."""
MISSING = object()
"""No default: a default of None means that the field may be absent."""

_SCALARS: dict[Any, tuple[Kind, str]] = {
    str: ("string", ""),
    int: ("integer", ""),
    float: ("number", ""),
    bool: ("boolean", ""),
    Any: ("any", ""),
    datetime: ("string", "date-time"),
}


@dataclass(frozen=True)
class Shape:
    """One field, list entry or model. Lengths count characters, entries or keys, by kind."""

    kind: Kind
    description: str = ""
    default: Any = MISSING
    change: Change | None = None
    enum: tuple[Any, ...] = ()
    format: str = ""
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    properties: dict[str, Shape] = field(default_factory=dict)
    items: Shape | None = None
    """Entries of a list, values of a map."""
    keys: Shape | None = None
    unique: Unique | None = None
    rules: tuple[Rule, ...] = ()
    model: type[Model] | None = None

    @property
    def required(self) -> bool:
        """Whether the field must be given."""
        return self.default is MISSING

    @property
    def optional(self) -> bool:
        """Whether the field may be absent after defaults were filled in."""
        return self.default is None


@cache
def shape_of(model: type[Model]) -> Shape:
    """The shape of a model, with its fields by wire name."""
    properties = {wire_name(name, info): _field_shape(info) for name, info in model.model_fields.items()}
    return Shape("object", description=_docstring(model), properties=properties, rules=model.rules, model=model)


def wire_name(name: str, info: FieldInfo) -> str:
    """The name a field has in a document."""
    return info.alias or name


def at(shape: Shape, location: tuple[int | str, ...]) -> Shape | None:
    """The shape at a place in a document; None where the models know none."""
    for part in location:
        step = shape.items if isinstance(part, int) or shape.kind == "map" else shape.properties.get(part)
        if step is None:
            return None
        shape = step
    return shape


def _docstring(model: type[Model]) -> str:
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _field_shape(info: FieldInfo) -> Shape:
    shape = _constrained(_annotation_shape(info.annotation), info.metadata)
    extra = info.json_schema_extra
    change = extra.get("x-change") if isinstance(extra, dict) else None
    description = " ".join((info.description or shape.description).split())
    return replace(shape, description=description, default=_default(info), change=change)  # type: ignore[arg-type]


def _default(info: FieldInfo) -> Any:
    if info.is_required():
        return MISSING
    value = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Model):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return to_jsonable_python(value)


def _annotation_shape(annotation: Any) -> Shape:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _constrained(_annotation_shape(arguments[0]), arguments[1:])
    if origin in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not NoneType)
        return _annotation_shape(inner)
    if origin is Literal:
        kind: Kind = "string" if isinstance(arguments[0], str) else "integer"
        return Shape(kind, enum=arguments)
    if origin is tuple:
        return Shape("list", items=_annotation_shape(arguments[0]))
    if origin is dict:
        return Shape("map", keys=_annotation_shape(arguments[0]), items=_annotation_shape(arguments[1]))
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return shape_of(annotation)
    kind, text_format = _SCALARS[annotation]
    return Shape(kind, format=text_format)


def _constrained(shape: Shape, metadata: Any) -> Shape:
    for item in metadata:
        for part in item.metadata if isinstance(item, FieldInfo) else (item,):
            shape = _narrowed(shape, part)
    return shape


def _narrowed(shape: Shape, part: Any) -> Shape:
    """The shape with one more constraint; the tighter of two bounds holds."""
    match part:
        case annotated_types.Ge(ge=bound):
            return _with_minimum(shape, bound, exclusive=False)
        case annotated_types.Gt(gt=bound):
            return _with_minimum(shape, bound, exclusive=True)
        case annotated_types.Le(le=bound):
            return _with_maximum(shape, bound, exclusive=False)
        case annotated_types.Lt(lt=bound):
            return _with_maximum(shape, bound, exclusive=True)
        case annotated_types.MinLen(min_length=length):
            return replace(shape, min_length=length)
        case annotated_types.MaxLen(max_length=length):
            return replace(shape, max_length=length)
        case Unique():
            return replace(shape, unique=part)
        case StringConstraints():
            return replace(shape, min_length=part.min_length, max_length=part.max_length, pattern=_text(part.pattern))
    pattern = getattr(part, "pattern", None)
    return replace(shape, pattern=_text(pattern)) if pattern else shape


def _text(pattern: Any) -> str | None:
    return pattern if pattern is None or isinstance(pattern, str) else str(pattern.pattern)


def _with_minimum(shape: Shape, bound: Any, *, exclusive: bool) -> Shape:
    if shape.minimum is not None and (shape.minimum, shape.exclusive_minimum) >= (bound, exclusive):
        return shape
    return replace(shape, minimum=bound, exclusive_minimum=exclusive)


def _with_maximum(shape: Shape, bound: Any, *, exclusive: bool) -> Shape:
    if shape.maximum is not None and (shape.maximum, not shape.exclusive_maximum) <= (bound, not exclusive):
        return shape
    return replace(shape, maximum=bound, exclusive_maximum=exclusive)
