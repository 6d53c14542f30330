"""Every field is set, changed and removed on a stored resource: both judges refuse the same changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from opt_api.parsing import parse_mapping
from opt_api.resources import KINDS
from opt_api.shapes import Shape, shape_of
from support.judges import ApiServer, disagreement, ours
from support.specs import REMOVED, Case, Document, complete, from_text, minimal, places, sample, value_at

pytestmark = pytest.mark.integration

STORED: dict[str, Callable[[], Document]] = {
    "short-training": lambda: minimal("OPTTraining"),
    "short-text": from_text,
    "full-training": lambda: complete("training from a data set"),
    "full-text": lambda: complete("training from text"),
    "short-serving": lambda: minimal("OPTServe"),
    "full-serving": lambda: complete("serving"),
}


def document_of(name: str) -> Document:
    """The document under the name it is stored by."""
    return {**STORED[name](), "metadata": {"name": name}}


@cache
def changes() -> dict[str, list[Case]]:
    """Every change to every stored document, once per kind of resource."""
    seen: set[tuple[str, str]] = set()
    found: dict[str, list[Case]] = {}
    for name in STORED:
        document = document_of(name)
        kind = document["kind"]
        found[name] = [case for case in changes_of(document) if (kind, str(case)) not in seen]
        seen |= {(kind, str(case)) for case in found[name]}
    return found


def changes_of(document: Document) -> Iterator[Case]:
    """Set what is absent, change and remove what is there."""
    for place, shape in places(shape_of(KINDS[document["kind"]]), document, grow=True):
        now = value_at(document, place)
        if now is None:
            yield Case(place, sample(shape), "is set")
            continue
        yield Case(place, REMOVED, "is removed")
        yield from (Case(place, value, "is changed") for value in others(shape, now))


def others(shape: Shape, now: object) -> Iterator[object]:
    """Other values of the same field."""
    if shape.enum:
        yield from (value for value in shape.enum if value != now)
    elif shape.kind == "boolean":
        yield not now
    elif shape.kind in ("integer", "number") and shape.maximum is not None and isinstance(now, int | float):
        yield now + 1 if now + 1 <= shape.maximum else (now + shape.maximum) / 2
    elif shape.kind == "string":
        yield f"{now}a"
    elif shape.kind == "list" and isinstance(now, list):
        yield [*now, *now]


@pytest.fixture(scope="module")
def stored(api_server: ApiServer) -> dict[str, Document]:
    return {name: api_server.store(document_of(name)) for name in STORED}


@pytest.mark.parametrize("name", STORED)
def test_changes_are_judged_alike(name: str, stored: dict[str, Document], api_server: ApiServer) -> None:
    document = document_of(name)
    before = parse_mapping(document)
    wrong, refusals, count = [], 0, 0
    for case in changes()[name]:
        changed = case.applied_to(document)
        mine, theirs = ours(changed, before), api_server.on_update(changed, stored[name])
        count, refusals = count + 1, refusals + (not mine.accepted)
        if text := disagreement(mine, theirs):
            wrong.append(f"{case}: {text}")
    assert not wrong, f"{len(wrong)} of {count} disagree:\n" + "\n".join(wrong[:20])
    assert 0 < refusals < count


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_order_of_named_entries_is_no_change(order: list[int], api_server: ApiServer) -> None:
    document = from_text(f"order-{order[0]}")
    document["spec"]["data"]["sources"] = [{"name": name, "uri": "file:///text"} for name in "ab"]
    made = api_server.store(document)
    sources = document["spec"]["data"]["sources"]
    changed = Case(("spec", "data", "sources"), [sources[index] for index in order], "is reordered").applied_to(
        document
    )
    assert ours(changed, parse_mapping(document)).accepted
    assert api_server.on_update(changed, made).accepted
