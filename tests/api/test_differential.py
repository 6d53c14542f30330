"""The same document before our models and before a real API server: equal verdicts, and both name the field."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opt_api.resources import KINDS
from opt_api.shapes import shape_of
from support.judges import ApiServer, Verdict, disagreement, ours
from support.mutations import cases
from support.specs import STARTS, Case, Document, complete

pytestmark = pytest.mark.integration

RANDOM_EXAMPLES = 300


@cache
def changes() -> dict[str, list[Case]]:
    """Every change to every place, once per kind of resource."""
    seen: set[tuple[str, str]] = set()
    found: dict[str, list[Case]] = {}
    for name in STARTS:
        base = complete(name)
        every = cases(shape_of(KINDS[base["kind"]]), base)
        found[name] = [case for case in every if (base["kind"], str(case)) not in seen]
        seen |= {(base["kind"], str(case)) for case in found[name]}
    return found


@pytest.mark.parametrize("name", STARTS)
def test_every_single_change_is_judged_alike(name: str, api_server: ApiServer) -> None:
    base = complete(name)
    assert_alike(changes()[name], lambda case: both(api_server, case.applied_to(base)))


@settings(
    max_examples=RANDOM_EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_several_changes_at_once_are_judged_alike(api_server: ApiServer, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(STARTS)))
    base = complete(name)
    chosen = data.draw(st.lists(st.sampled_from(changes()[name]), max_size=4, unique_by=str))
    assert_alike([chosen], lambda several: both(api_server, apply_all(base, several)))


def apply_all(document: Document, several: Iterable[Case]) -> Document:
    for case in several:
        try:
            document = case.applied_to(document)
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # an earlier change took the place away
    return document


def both(server: ApiServer, document: Document) -> tuple[Verdict, Verdict]:
    return ours(document), server.on_create(document)


def assert_alike(many: Iterable[object], judge: Callable[..., tuple[Verdict, Verdict]]) -> None:
    found = [(case, disagreement(*judge(case))) for case in many]
    wrong = [f"{case}: {text}" for case, text in found if text]
    assert not wrong, f"{len(wrong)} of {len(found)} disagree:\n" + "\n".join(wrong[:20])
