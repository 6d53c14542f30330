"""The rules that can be judged although other fields are wrong.

pydantic checks a model's rules only when all its fields are right. Here the wrong ones are left out of a partial
model, and a rule that reads one of them says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from opt_api.base import Model, Rule
from opt_api.problems import Location
from opt_api.shapes import MISSING, Shape, wire_name

Broken = tuple[Location, Rule]


def broken_rules(shape: Shape, value: Any, wrong: frozenset[Location], location: Location = ()) -> Iterator[Broken]:
    """Every broken rule at or below a place, with the place of its model.

    Args:
        shape: shape of the value.
        value: the value as it was read.
        wrong: places whose value has the wrong type or bounds, or is missing.
        location: place of the value.
    """
    if location in wrong or value is None:
        return
    if shape.kind == "list" and isinstance(value, list) and shape.items:
        for index, item in enumerate(value):
            yield from broken_rules(shape.items, item, wrong, (*location, index))
    if shape.kind != "object" or not isinstance(value, dict):
        return
    for name, part in shape.properties.items():
        yield from broken_rules(part, value.get(name), wrong, (*location, name))
    model = partial(shape, value, wrong, location)
    yield from ((location, rule) for rule in shape.rules if _is_broken(rule, model))


def partial(shape: Shape, value: Any, wrong: frozenset[Location], location: Location) -> Any:
    """The value as the model would hold it; wrong fields are no attributes of it."""
    if shape.kind == "list":
        assert shape.items is not None
        return tuple(partial(shape.items, item, wrong, (*location, index)) for index, item in enumerate(value))
    if shape.kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    if shape.kind != "object" or shape.model is None:
        return value
    return _model(shape.model, shape, value, wrong, location)


def _model(model: type[Model], shape: Shape, value: Any, wrong: frozenset[Location], location: Location) -> Model:
    given: dict[str, Any] = {}
    absent: list[str] = []
    for attribute, info in model.model_fields.items():
        name = wire_name(attribute, info)
        part, place = shape.properties[name], (*location, name)
        item = value.get(name)
        if _unusable(item, part, wrong, place):
            absent.append(attribute)
        elif item is not None:
            given[attribute] = partial(part, item, wrong, place)
    built = model.model_construct(**given)
    for attribute in absent:
        built.__dict__.pop(attribute, None)
    return built


def _unusable(value: Any, shape: Shape, wrong: frozenset[Location], place: Location) -> bool:
    """Whether a field has no value that a rule could read."""
    if place in wrong or (value is None and shape.default is MISSING):
        return True
    return isinstance(value, list) and any((*place, index) in wrong for index in range(len(value)))


def _is_broken(rule: Rule, model: Any) -> bool:
    try:
        return not rule.check(model)
    except (
        AttributeError,
        TypeError,
        ZeroDivisionError,
    ):  # it reads what is wrong or missing, and that is said already
        return False
