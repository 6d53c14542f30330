"""Progress, added up."""

from __future__ import annotations

import pytest

from opt_store.s3.tally import Tally

pytestmark = pytest.mark.unit


def test_progress_adds_up():
    seen: list[tuple[int, int]] = []
    tally = Tally(10, lambda *now: seen.append(now))
    for count in (3, 3, 4):
        tally.add(count)
    assert seen == [(3, 10), (6, 10), (10, 10)]
