"""When a changed field takes effect, and which changes are refused because they would make it another run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from opt_api.base import Change, Model
from opt_api.canonical import canonical_json
from opt_api.shapes import Shape, shape_of

Path = tuple[str, ...]
Guard = Literal["value", "presence"]
"""What of a field is fixed: its value, or only whether it is there (its parts are judged one by one)."""


@dataclass(frozen=True)
class Difference:
    """One field that differs between two specs; an absent value is None."""

    path: Path
    before: Any
    after: Any
    when: Change

    @property
    def field(self) -> str:
        """The path as it is written: `optimisation.learningRate`."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Fixed:
    """One field that is part of the identity."""

    path: Path
    guard: Guard
    shape: Shape


def effective(part: Shape, inherited: Change) -> Change:
    """The class of a field: its own, else that of what it is in. A served model has rolls, no attempts."""
    return "roll" if inherited == "roll" and part.change == "attempt" else part.change or inherited


def differences(old: Model, new: Model, inherited: Change = "identity") -> tuple[Difference, ...]:
    """Every field that differs, deepest first named, with the time at which its change takes effect."""
    return tuple(_differences(shape_of(type(old)), (), old.wire(), new.wire(), inherited))


def refused(old: Model, new: Model, inherited: Change = "identity") -> tuple[Difference, ...]:
    """The differences that are not allowed: identity fields never change."""
    return tuple(item for item in differences(old, new, inherited) if item.when == "identity")


def identity(spec: Model) -> dict[str, Any]:
    """The identity fields of a spec, as a document: equal documents name the same run."""
    return _identity(shape_of(type(spec)), spec.wire(), "identity")


def fixed_fields(shape: Shape, inherited: Change, path: Path = ()) -> Iterator[Fixed]:
    """The fields to guard, as few as still name the field: parts of a section one by one, what lies deeper whole."""
    for name, part in shape.properties.items():
        when, place = effective(part, inherited), (*path, name)
        found = classes(part, when)
        if "identity" not in found:
            continue
        if found == {"identity"} and (part.kind != "object" or path or part.optional):
            yield Fixed(place, "value", part)
            continue
        if part.optional:
            yield Fixed(place, "presence", part)
        yield from fixed_fields(part, when, place)


def classes(shape: Shape, when: Change) -> set[Change]:
    """The classes of all fields of a subtree."""
    if shape.kind != "object":
        return {when}
    parts = (classes(part, effective(part, when)) for part in shape.properties.values())
    return set().union(*parts)


def _differences(shape: Shape, path: Path, old: Any, new: Any, when: Change) -> Iterator[Difference]:
    if shape.kind == "object" and isinstance(old, dict) and isinstance(new, dict):
        for name, part in shape.properties.items():
            yield from _differences(part, (*path, name), old.get(name), new.get(name), effective(part, when))
    elif _comparable(shape, old) != _comparable(shape, new):
        yield Difference(path, old, new, when)


def _comparable(shape: Shape, value: Any) -> Any:
    """The value as it is compared: entries of a keyed list or set have no order, as for the API server."""
    if shape.unique and isinstance(value, list):
        return sorted(canonical_json(item) for item in value)
    return value


def _identity(shape: Shape, value: dict[str, Any], inherited: Change) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, part in shape.properties.items():
        when = effective(part, inherited)
        if name not in value or "identity" not in classes(part, when):
            continue
        item = value[name]
        if part.kind == "object":
            item = _identity(part, item, when)
        elif part.unique:
            item = sorted(item, key=canonical_json)
        kept[name] = item
    return kept
