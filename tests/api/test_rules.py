"""Each rule is broken once: both judges refuse, pin it to the same field and say the same."""

from __future__ import annotations

import pytest

from support.broken_rules import Key, broken, rules
from support.judges import ApiServer, ours
from support.specs import Document, complete

RULES, BROKEN = rules(), broken()
STARTS = {"OPTTraining": "training from a data set", "OPTServe": "serving"}


def breaking(key: Key) -> Document:
    document = complete(STARTS[key[0]])
    for case in BROKEN[key]:
        document = case.applied_to(document)
    return document


def path_of(key: Key) -> str:
    _, place, field = key
    return f"spec.{place}.{field}".replace("..", ".").replace(".0.", "[0].")


@pytest.mark.unit
def test_there_is_an_example_of_every_rule() -> None:
    assert set(RULES) == set(BROKEN)


@pytest.mark.unit
@pytest.mark.parametrize("key", RULES, ids=lambda key: ".".join(filter(None, key)))
def test_our_judge_refuses_and_names_the_field(key: Key) -> None:
    verdict = ours(breaking(key))
    assert not verdict.accepted
    assert verdict.fields == {path_of(key)}
    assert RULES[key].message in verdict.message


@pytest.mark.integration
@pytest.mark.parametrize("key", RULES, ids=lambda key: ".".join(filter(None, key)))
def test_the_api_server_refuses_and_names_the_field(key: Key, api_server: ApiServer) -> None:
    verdict = api_server.on_create(breaking(key))
    assert not verdict.accepted
    assert path_of(key) in verdict.fields
    assert RULES[key].message in verdict.message
