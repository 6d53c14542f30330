"""pydantic's verdict on a document in our words: each problem with what was found and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from opt_api.base import Model, without_nulls
from opt_api.parsing.rules import broken_rules
from opt_api.parsing.text import scalar
from opt_api.parsing.words import allowed_text
from opt_api.problems import Location, Problem, field_path, found_text
from opt_api.shapes import Shape, at, shape_of

M = TypeVar("M", bound=Model)
Judged = tuple[Location, Problem]
_RULES = "rules"
_NOT_WRONG = {_RULES, "extra_forbidden", "repeated"}
"""Errors beside which the field's own value can still be judged."""


def judge(model: type[M], value: Any) -> M | list[Judged]:
    """The parsed model, or every problem with its place.

    Values are read strictly, as JSON: text is never taken for a number, 3.0 is a whole number, null is absent.
    """
    value = without_nulls(value)
    try:
        return model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
    shape = shape_of(model)
    return sorted([*_fields(shape, details), *_rules(shape, value, details)], key=lambda item: field_path(item[0]))


def _fields(shape: Shape, details: list[ErrorDetails]) -> Iterator[Judged]:
    for detail in details:
        if detail["type"] != _RULES:
            yield _TELL.get(detail["type"], _wrong)(shape, detail)


def _rules(shape: Shape, value: Any, details: list[ErrorDetails]) -> Iterator[Judged]:
    wrong = frozenset(detail["loc"] for detail in details if detail["type"] not in _NOT_WRONG)
    for place, rule in broken_rules(shape, value, wrong):
        location = (*place, *rule.field.split("."))
        yield location, Problem(field_path(location), _found(value, location), rule.message)


def _found(value: Any, location: Location) -> str:
    """What stands at a place."""
    for part in location:
        inside = (isinstance(value, dict) and part in value) or (isinstance(value, list) and isinstance(part, int))
        if not inside:
            return "nothing"
        value = value[part]
    return found_text(value)


def _wrong(shape: Shape, detail: ErrorDetails) -> Judged:
    location = detail["loc"]
    if location and location[-1] == "[key]":
        return _wrong_key(shape, location[:-1])
    place, found = at(shape, location), detail["input"]
    allowed = allowed_text(place) if place else detail["msg"]
    return location, Problem(field_path(location), found_text(found), allowed, _hint(place, found))


def _wrong_key(shape: Shape, location: Location) -> Judged:
    whole = at(shape, location[:-1])
    allowed = allowed_text(whole.keys) if whole and whole.keys else "another key"
    return location, Problem(field_path(location), f"the key {found_text(location[-1])}", allowed)


def _missing(shape: Shape, detail: ErrorDetails) -> Judged:
    location = detail["loc"]
    place = at(shape, location)
    allowed = allowed_text(place) if place else "a value"
    return location, Problem(field_path(location), "nothing", allowed, "the field is required")


def _unknown(shape: Shape, detail: ErrorDetails) -> Judged:
    location = detail["loc"]
    around = at(shape, location[:-1])
    names = list(around.properties) if around else []
    hint = _did_you_mean(str(location[-1]), names)
    return location, Problem(field_path(location), "an unknown field", f"one of {', '.join(names)}", hint)


def _repeated(shape: Shape, detail: ErrorDetails) -> Judged:
    context = detail["ctx"]
    location = (*detail["loc"], context["index"])
    return location, Problem(field_path(location), "a repetition", detail["msg"])


def _hint(shape: Shape | None, found: Any) -> str:
    if shape is None or not isinstance(found, str):
        return "write it in quotes" if shape and shape.kind == "string" and _is_scalar(found) else ""
    if shape.enum:
        return _did_you_mean(found, [str(value) for value in shape.enum])
    unquoted = shape.kind in ("integer", "number", "boolean") and not isinstance(scalar(found), str)
    return "write it without quotes" if unquoted else ""


def _is_scalar(found: Any) -> bool:
    return isinstance(found, bool | int | float)


def _did_you_mean(name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else ""


_TELL: dict[str, Callable[[Shape, ErrorDetails], Judged]] = {
    "missing": _missing,
    "extra_forbidden": _unknown,
    "repeated": _repeated,
}
