"""The plan beside a run: the first one stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from opt_api.documents.keys import plan_key
from opt_api.documents.plan import Plan
from opt_runtime.records.kept_plan import keep_plan
from opt_store import open_store
from support.local_run import tiny_plan

pytestmark = pytest.mark.unit


def test_the_first_plan_is_kept_and_later_ones_are_told_it(tmp_path: Path) -> None:
    store, first, other = open_store(tmp_path.as_uri()), tiny_plan(2), tiny_plan(4)
    assert first != other
    assert keep_plan(store, first) == first
    assert keep_plan(store, other) == first
    assert Plan.from_bytes(store.get(plan_key("tiny"))) == first
