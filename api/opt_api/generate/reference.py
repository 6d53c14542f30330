"""Reference pages: a table for each model, and its rules in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from opt_api.base import Change
from opt_api.change_rules import classes, effective
from opt_api.parsing.words import allowed_text
from opt_api.shapes import MISSING, Shape

TAKES_EFFECT: dict[Change, str] = {
    "identity": "never",
    "attempt": "next attempt",
    "step": "while running",
    "roll": "rolling update",
    "now": "at once",
}


@dataclass(frozen=True)
class Row:
    """One field as the table's columns see it."""

    name: str
    shape: Shape
    when: Change


Columns = dict[str, Callable[[Row], str]]


def spec_page(title: str, shape: Shape, path: str, when: Change, intro: str) -> str:
    """The page of a spec: with defaults, bounds and the time at which a change takes effect."""
    return _page(title, intro, _sections(shape, path, when, _SPEC))


def plain_page(title: str, parts: dict[str, Shape], intro: str) -> str:
    """The page of documents or a status: what stands in them."""
    sections = (section for path, shape in parts.items() for section in _sections(shape, path, "now", _PLAIN))
    return _page(title, intro, sections)


def _page(title: str, intro: str, sections: Iterator[str]) -> str:
    return "\n\n".join([f"# {title}", intro, *sections]) + "\n"


def _sections(shape: Shape, path: str, when: Change, columns: Columns) -> Iterator[str]:
    rows = [Row(name, part, effective(part, when)) for name, part in shape.properties.items()]
    yield "\n\n".join(
        part for part in (f"## `{path}`", shape.description, _table(rows, columns), _rules(shape)) if part
    )
    for row in rows:
        inner = row.shape.items if row.shape.kind in ("list", "map") else row.shape
        if inner is not None and inner.properties:
            suffix = {"list": "[]", "map": "[*]"}.get(row.shape.kind, "")
            yield from _sections(inner, f"{path}.{row.name}{suffix}", row.when, columns)


def _table(rows: list[Row], columns: Columns) -> str:
    lines = [columns.keys(), ["---"] * len(columns)]
    lines += [[_cell(tell(row)) for tell in columns.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _rules(shape: Shape) -> str:
    return (
        "\n".join(["Rules:", "", *(f"- `{rule.field}` {rule.message}." for rule in shape.rules)]) if shape.rules else ""
    )


def _type(row: Row) -> str:
    kind = {"map": "map", "list": "list"}.get(row.shape.kind, row.shape.kind)
    inner = row.shape.items
    return f"{kind} of {inner.format or inner.kind}" if inner else row.shape.format or kind


def _default(row: Row) -> str:
    if row.shape.default is MISSING:
        return "**required**"
    return "" if row.shape.default is None else f"`{json.dumps(row.shape.default)}`"


def _allowed(row: Row) -> str:
    shape = row.shape
    own = "" if shape.kind in ("object", "boolean") else allowed_text(shape)
    inner = shape.items
    each = f"; each {allowed_text(inner)}" if inner and not inner.properties else ""
    unique = f"; unique {shape.unique.key or 'entries'}" if shape.unique else ""
    return _as_code(own + each + unique)


def _as_code(text: str) -> str:
    """A pattern stands in code marks."""
    head, found, pattern = text.partition("matching ")
    return f"{head}{found}`{pattern}`" if found else text


def _effect(row: Row) -> str:
    found = classes(row.shape, row.when)
    return TAKES_EFFECT[found.pop()] if len(found) == 1 else "see below"


_FIELD: Columns = {"Field": lambda row: f"`{row.name}`", "Type": _type}
_MEANING: Columns = {"Meaning": lambda row: row.shape.description}
_SPEC: Columns = _FIELD | {"Default": _default, "Allowed": _allowed, "A change takes effect": _effect} | _MEANING
_PLAIN: Columns = _FIELD | {"Default": _default, "Allowed": _allowed} | _MEANING
