"""The operator dies after each write, sees late or nothing, and is refused: the end is the same."""

from __future__ import annotations

import pytest

from support.opmodel.serve_harness import Perturbation, play
from support.opmodel.serve_scenarios import SCENARIOS, end_of, run_of

pytestmark = pytest.mark.integration
EVERY_WRITE = ("newer", "late-error", "awake")
"""The others: every third write."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_it_may_die_after_any_write(name: str) -> None:
    base = run_of(name)
    play(base)
    wanted, wrong = SCENARIOS[name].end, []
    for index in range(0, base.writes, 1 if name in EVERY_WRITE else 3):
        run = run_of(name, die_at=index)
        found = end_of(play(run))
        different = {key: (found[key], wanted[key]) for key in wanted if found[key] != wanted[key]}
        if different or run.deaths != 1:
            wrong.append((index, base.world.api.history[index], different))
    assert not wrong
    assert base.writes > 10


TROUBLES = {
    "late": Perturbation(lag=3),
    "a tenth of events never come": Perturbation(drop=0.1, seed=1),
    "half of events never come": Perturbation(drop=0.5, seed=2),
    "conflicts": Perturbation(faults=0.3, status=409, seed=3),
    "errors and late": Perturbation(faults=0.3, status=500, lag=4, drop=0.1, seed=6),
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_it_comes_to_the_same_end(name: str, trouble: str) -> None:
    found = end_of(play(run_of(name, TROUBLES[trouble])))
    assert {key: found[key] for key in SCENARIOS[name].end} == SCENARIOS[name].end
