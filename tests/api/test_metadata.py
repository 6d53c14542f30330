"""The head of a resource: names, labels and annotations are judged as the API server judges them."""

from __future__ import annotations

import pytest

from support.judges import ApiServer, disagreement, ours
from support.specs import REMOVED, Case, minimal

pytestmark = pytest.mark.integration

LONG = "a" * 64
VALUES: dict[str, list[object]] = {
    "name": ["a", "a" * 40, "a" * 41, "1a", "a.b", "A", "a-", "", 7, None, REMOVED],
    "labels": [
        {"a": "b"}, {"a": ""}, {"a": "b c"}, {"a": LONG}, {"a": 1}, {"a..": "b"}, {LONG: "b"}, {"x.y/a": "b"},
        {"X/a": "b"}, {"/a": "b"}, {"": "b"}, {"a" * 254 + "/b": "c"}, ["a"], None, {"a": None},
    ],
    "annotations": [
        {"a": "b c"}, {"a": LONG}, {"a": 1}, {"a..": "b"}, {LONG: "b"}, {"x.y/a": "b"}, {"X/a": "b"}, {"/a": "b"}, None,
    ],
    "noSuchField": [1],
    "finalizers": [["opt-operator.io/cleanup"]],
}  # fmt: skip
CASES = [Case(("metadata", field), value, f"is {value!r:.40}") for field, values in VALUES.items() for value in values]


@pytest.mark.parametrize("kind", ["OPTTraining", "OPTServe"])
def test_metadata_is_judged_alike(kind: str, api_server: ApiServer) -> None:
    documents = [(case, case.applied_to(minimal(kind, "head"))) for case in CASES]
    wrong = [(str(case), disagreement(ours(found), api_server.on_create(found))) for case, found in documents]
    assert not [f"{case}: {text}" for case, text in wrong if text]
