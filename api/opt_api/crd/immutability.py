"""Transition rules: identity fields keep their value, and optional ones are neither set nor unset later."""

from __future__ import annotations

from typing import Any

from opt_api.base import Change
from opt_api.change_rules import Fixed, fixed_fields
from opt_api.shapes import Shape

MESSAGE = "cannot change; make a new resource"


def add_fixed(schema: dict[str, Any], shape: Shape, inherited: Change) -> None:
    """Add to a spec's schema the rules that refuse a change of identity."""
    for fixed in fixed_fields(shape, inherited):
        *parents, name = fixed.path
        parent = schema
        for step in parents:
            parent = parent["properties"][step]
        if fixed.shape.optional:
            parent.setdefault("x-kubernetes-validations", []).append(_in_parent(name, fixed))
        else:
            rule = {"rule": "self == oldSelf", "message": MESSAGE, "reason": "FieldValueForbidden"}
            parent["properties"][name].setdefault("x-kubernetes-validations", []).append(rule)


def _in_parent(name: str, fixed: Fixed) -> dict[str, Any]:
    """A rule on a field does not run when the field is added or removed; one on its parent does.

    The short form compares two optionals. The API server cannot bound the cost of that for text and lists.
    """
    short, presence = f"self.?{name} == oldSelf.?{name}", f"has(self.{name}) == has(oldSelf.{name})"
    value = f"{presence} && (!has(self.{name}) || self.{name} == oldSelf.{name})"
    bounded = fixed.shape.kind in ("integer", "number", "boolean")
    rule = presence if fixed.guard == "presence" else short if bounded else value
    return {"rule": rule, "message": MESSAGE, "fieldPath": f".{name}", "reason": "FieldValueForbidden"}
