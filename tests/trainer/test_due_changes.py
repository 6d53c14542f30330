"""Which running changes take effect before a step."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from opt_api.documents.live_change import LiveChange
from opt_trainer.loop.running import due_changes

pytestmark = pytest.mark.unit


def changes(*steps: int) -> list[LiveChange]:
    said = {"reason": "a test", "who": "test", "time": datetime(2026, 11, 27, tzinfo=UTC)}
    return [LiveChange(sequence=at, at_step=step, clip=0.5, **said) for at, step in enumerate(steps, 1)]


@pytest.mark.parametrize(
    ("steps", "next_step", "due"),
    [
        ((), 7, 0),
        ((5, 9), 4, 0),
        ((5, 9), 5, 1),
        ((5, 9), 8, 1),
        ((5, 9), 9, 2),
        ((54, 41), 40, 0),
        ((54, 41), 41, 2),  # made while the run stood still: the one before it must not hold it back
    ],
)
def test_a_change_takes_effect_at_its_step_and_takes_those_before_it_along(
    steps: tuple[int, ...], next_step: int, due: int
) -> None:
    known = changes(*steps)
    assert due_changes(known, next_step) == known[:due]
