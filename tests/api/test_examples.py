"""The examples are accepted, by `optctl validate` and by the API server."""

from __future__ import annotations

from pathlib import Path

import pytest

from opt_api.parsing.text import read
from opt_api.resources import KINDS
from support.judges import ApiServer, ours

pytestmark = pytest.mark.integration

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def test_the_promised_examples_are_there() -> None:
    assert {"quickstart.yaml", "opt-125m.yaml", "opt-175b.yaml", "serve.yaml"} <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_accepted_by_both_judges(path: Path, api_server: ApiServer) -> None:
    documents = [found.value for found in read(path.read_text(encoding="utf-8")) if found.value.get("kind") in KINDS]
    assert documents
    for document in documents:
        assert ours(document).accepted
        assert api_server.on_create(document).accepted
