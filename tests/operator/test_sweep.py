"""The operator dies after each of its writes, sees late or nothing, and is refused: every run comes to the same end."""

from __future__ import annotations

import pytest

from support.opmodel.harness import Perturbation, end_of, play
from support.opmodel.scenarios import SCENARIOS, run_of

pytestmark = pytest.mark.integration

SETTLED = ("there", "phase", "dataset", "intent", "pods", "jobs", "others")


@pytest.mark.parametrize("name", SCENARIOS)
def test_it_may_die_after_any_write(name: str) -> None:
    """Dying before a write is dying after the one before it: nothing else happens in between."""
    base = run_of(name)
    wanted = end_of(play(base))
    wrong = []
    for index in range(base.writes):
        run = run_of(name, die_at=index)
        found = end_of(play(run))
        if found != wanted or run.doubled or run.deaths != 1:
            different = {key: (found[key], wanted[key]) for key in wanted if found[key] != wanted[key]}
            wrong.append((index, base.world.api.history[index], different, run.doubled[:2]))
    assert not wrong
    assert base.writes > 10


TROUBLES = {
    "late": Perturbation(lag=3),
    "very late": Perturbation(lag=12),
    "a tenth of events never come": Perturbation(drop=0.1, seed=1),
    "half of events never come": Perturbation(drop=0.5, seed=2),
    "conflicts": Perturbation(faults=0.3, status=409, seed=3),
    "too many requests": Perturbation(faults=0.3, status=429, seed=4),
    "errors": Perturbation(faults=0.5, status=500, seed=5),
    "errors and late": Perturbation(faults=0.3, status=500, lag=4, drop=0.1, seed=6),
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_it_comes_to_the_same_end(name: str, trouble: str) -> None:
    run = run_of(name, TROUBLES[trouble])
    found = end_of(play(run))
    assert not run.doubled
    assert {key: found[key] for key in SCENARIOS[name].end} == SCENARIOS[name].end
