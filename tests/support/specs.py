"""Documents made from the models: complete valid ones, and one changed place at a time."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from opt_api.base import API_VERSION
from opt_api.parsing import parse_mapping
from opt_api.problems import Problems, field_path
from opt_api.resources import KINDS
from opt_api.shapes import Shape, shape_of

Document = dict[str, Any]
Place = tuple[str | int, ...]
REMOVED = object()

TEXTS = (
    "a", "ab1", "1Gi", "s3://bucket/key", "http://store:9000", "example.com/thing", "a-b", "Ready", "A",
    "sha256:" + "0" * 64, "2026-01-31T12:00:00Z",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One change to a document; REMOVED takes the place out."""

    place: Place
    value: Any
    why: str

    def applied_to(self, document: Document) -> Document:
        """A copy of the document with the change; missing mappings on the way are made."""
        changed = copy.deepcopy(document)
        parent: Any = changed
        for step in self.place[:-1]:
            parent = parent.setdefault(step, {}) if isinstance(parent, dict) else parent[step]
        if self.value is not REMOVED:
            parent[self.place[-1]] = copy.deepcopy(self.value)
        elif isinstance(parent, dict):
            parent.pop(self.place[-1], None)
        return changed

    def __str__(self) -> str:
        """For messages."""
        return f"{field_path(self.place)} {self.why}"


def minimal(kind: str, name: str = "minimal") -> Document:
    """The shortest valid document."""
    spec = {
        "OPTTraining": {"model": {"preset": "opt-125m"}, "data": {"dataset": "s3://bucket/data/manifest.json"}},
        "OPTServe": {"source": {"training": {"name": "run"}}},
    }[kind]
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def from_text(name: str = "from-text") -> Document:
    """The shortest training from raw text."""
    document = minimal("OPTTraining", name)
    document["spec"]["data"] = {
        "sources": [{"name": "a", "uri": "file:///text"}],
        "tokenizer": {"train": {"vocabularySize": 1024}},
    }
    return document


STARTS: dict[str, Callable[[], Document]] = {
    "training from a data set": lambda: minimal("OPTTraining"),
    "training from text": from_text,
    "serving": lambda: minimal("OPTServe"),
}


@cache
def complete(name: str) -> Document:
    """The complete document that grows from one of STARTS; shared, so nobody may change it."""
    return full(STARTS[name]())


def full(document: Document, part: str = "spec") -> Document:
    """The resource with every field of its spec (or status) set that can be set beside the others."""
    every = places(shape_of(KINDS[document["kind"]]), document, part=part, grow=True)
    return grown(document, every, _is_valid)


def grown(document: Document, every: Iterable[tuple[Place, Shape]], is_valid: Callable[[Document], bool]) -> Document:
    """The document with each place set in turn, where that leaves it valid."""
    for place, shape in every:
        changed = Case(place, sample(shape), "is set").applied_to(document)
        document = changed if is_valid(changed) else document
    return document


def places(
    shape: Shape, document: Document, *, part: str = "spec", grow: bool = False
) -> Iterator[tuple[Place, Shape]]:
    """Every place of a resource's spec or status, parents first; with `grow` also those that are not there yet."""
    yield from below(shape.properties[part], (part,), document, grow=grow)


def below(shape: Shape, place: Place, document: Document, *, grow: bool) -> Iterator[tuple[Place, Shape]]:
    """A place and every place in it."""
    yield place, shape
    if shape.kind == "list" and shape.items and (grow or value_at(document, place)):
        yield from below(shape.items, (*place, 0), document, grow=grow)
    for name, part in shape.properties.items():
        inside = (*place, name)
        if grow or value_at(document, inside) is not None:
            yield from below(part, inside, document, grow=grow)


def value_at(document: Any, place: Place) -> Any:
    """What stands at a place; None where nothing does."""
    for step in place:
        inside = (
            step in document if isinstance(document, dict) else isinstance(step, int) and step < len(document or "")
        )
        if not inside:
            return None
        document = document[step]
    return document


def sample(shape: Shape) -> Any:
    """A valid value that is not the default, as small as the bounds allow."""
    match shape.kind:
        case "object":
            return {name: sample(part) for name, part in shape.properties.items() if part.required}
        case "list":
            assert shape.items is not None
            return [sample(shape.items)]
        case "map":
            return {"example.com/key": sample(shape.items) if shape.items else "a"}
        case "boolean":
            return shape.default is not True
        case "integer" | "number":
            return _number(shape)
        case "any":
            return 1
    choices = shape.enum or [text for text in TEXTS if _fits(shape, text)]
    return next(choice for choice in choices if choice != shape.default or len(choices) == 1)


def _number(shape: Shape) -> float:
    low, high = shape.minimum or 0, shape.maximum
    if shape.kind == "integer":
        return int(low + 1 if low == shape.default else low)
    middle = (low + min(low + 1 if high is None else high, low + 1)) / 2
    return middle if middle != shape.default else (low + middle) / 2


def _fits(shape: Shape, text: str) -> bool:
    if shape.format == "date-time":
        return text.endswith("Z")
    shortest, longest = shape.min_length or 0, shape.max_length or len(text)
    return shortest <= len(text) <= longest and (shape.pattern is None or bool(re.fullmatch(shape.pattern, text)))


def _is_valid(document: Document) -> bool:
    try:
        parse_mapping(document)
    except Problems:
        return False
    return True
