"""What can be done to one place of a document: each kind of field has its own edges and its own ways to be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from opt_api.shapes import Shape
from support.specs import REMOVED, Case, Document, places, sample, value_at

Named = Iterator[tuple[str, Any]]


def cases(shape: Shape, document: Document, part: str = "spec") -> Iterator[Case]:
    """Every change to every place that the document has in its spec or status."""
    for place, field in places(shape, document, part=part):
        for why, value in values(field, value_at(document, place)):
            yield Case(place, value, why)


def values(shape: Shape, now: Any) -> Named:
    """Values for one place: some valid, some wrong, each with a name."""
    yield "is null", None
    yield "is removed", REMOVED
    yield from _BY_KIND[shape.kind](shape, now)


def _object(_shape: Shape, now: Any) -> Named:
    yield "is a list", []
    yield "is text", "x"
    yield "is empty", {}
    yield "has an unknown field", {**(now or {}), "noSuchField": 1}


def _list(shape: Shape, now: Any) -> Named:
    items = now or [sample(shape.items)] if shape.items else []
    yield "is a mapping", {}
    yield "is empty", []
    yield "is text", "x"
    yield "holds null", [None]
    yield "holds the same twice", [items[0], items[0]]
    if shape.max_length:
        yield "is too long", [items[0]] * (shape.max_length + 1)


def _map(shape: Shape, _now: Any) -> Named:
    yield "is a list", []
    yield "is empty", {}
    yield "holds a number", {"a": 1}
    yield "holds null", {"a": None}
    yield "holds a wrong value", {"a": "~"}
    yield "has a wrong key", {"a..": "b"}
    yield "has a long key", {"a" * 64: "b"}
    yield "has a key with a prefix", {"example.com/a": "b"}
    yield "has a key with an upper-case prefix", {"Example.com/a": "b"}
    yield "has a key of ours", {"opt-operator.io/a": "b"}
    if shape.max_length:
        yield "is too large", {f"k{number}": "v" for number in range(shape.max_length + 1)}


def _string(shape: Shape, _now: Any) -> Named:
    yield "is a number", 7
    yield "is true", True
    if not shape.format:  # kube-apiserver 1.37 takes a list of texts where a schema wants a date-time
        yield "is a list", ["x"]
    yield "is empty", ""
    yield "ends in a line break", f"{sample(shape)}\n"
    if shape.enum:
        yield "is a typo", f"{shape.enum[0]}x"
        yield "is in another case", shape.enum[0].swapcase()
        return
    yield "has odd characters", "é \u00a0 \U0001f600"
    for name, length in (("is as long as it may be", shape.max_length), ("is too long", (shape.max_length or 0) + 1)):
        yield name, "a" * (length or 1)


def _integer(shape: Shape, now: Any) -> Named:
    assert shape.minimum is not None
    assert shape.maximum is not None
    low, high = int(shape.minimum), int(shape.maximum)
    yield "is at its lower bound", low
    yield "is at its upper bound", high
    yield "is below its lower bound", low - 1
    yield "is above its upper bound", high + 1
    yield "is far above its upper bound", 10**19
    yield "is whole, written as a float", float(now if isinstance(now, int) else low)
    yield "is broken", low + 0.5
    yield from _not_a_number(low)


def _number(shape: Shape, _now: Any) -> Named:
    assert shape.minimum is not None
    assert shape.maximum is not None
    low, high = shape.minimum, shape.maximum
    yield "is at its lower bound", low
    yield "is at its upper bound", high
    yield "is just above its lower bound", math.nextafter(low, math.inf)
    yield "is just below its lower bound", math.nextafter(low, -math.inf)
    yield "is just above its upper bound", math.nextafter(high, math.inf)
    yield "is just below its upper bound", math.nextafter(high, -math.inf)
    yield "is whole", int(high)
    yield from _not_a_number(low)


def _not_a_number(value: float) -> Named:
    yield "is a number in quotes", str(value)
    yield "is true", True
    yield "is a mapping", {}


def _boolean(_shape: Shape, _now: Any) -> Named:
    yield "is true", True
    yield "is false", False
    yield "is true in quotes", "true"
    yield "is one", 1


_BY_KIND: dict[str, Callable[[Shape, Any], Named]] = {
    "object": _object,
    "list": _list,
    "map": _map,
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
}
