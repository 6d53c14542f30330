"""The operator dies after each of its writes, sees late or nothing, and is refused: every run comes to the same end."""

from __future__ import annotations

import pytest

from support.opmodel.harness import Perturbation, end_of, play
from support.opmodel.scenarios import SCENARIOS, run_of

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", SCENARIOS)
def test_it_may_die_after_any_write(name: str) -> None:
    """After a write and before its answer. Before a write is after the one before it: nothing happens in between.

    What comes before a scenario's own event is the same in all, and swept once.
    """
    base = run_of(name)
    wanted = end_of(play(base))
    first = 0 if name in ("create", "bad-data", "flaky-data") else base.before
    assert base.writes > first or name == "delete", "what is deleted goes by itself: nothing is written any more"
    wrong = []
    for index in range(first, base.writes):
        run = run_of(name, die_at=index, end=wanted)
        found = end_of(play(run))
        if found != wanted or run.doubled or run.deaths != 1:
            different = {key: (found[key], wanted[key]) for key in wanted if found[key] != wanted[key]}
            wrong.append((index, base.made[index], different, run.doubled[:2]))
    assert not wrong


TROUBLES = {
    "late": Perturbation(lag=3),
    "very late": Perturbation(lag=12),
    "a tenth of events never come": Perturbation(drop=0.1, seed=1),
    "half of events never come": Perturbation(drop=0.5, seed=2),
    "conflicts": Perturbation(faults=0.3, status=409, seed=3),
    "too many requests": Perturbation(faults=0.3, status=429, seed=4),
    "errors": Perturbation(faults=0.5, status=500, seed=5),
    "errors and late": Perturbation(faults=0.3, status=500, lag=4, drop=0.1, seed=6),
    "answers come too late": Perturbation(lost=0.3, lag=2, seed=7),
    "nobody answers for 30 s": Perturbation(outage=(29, 59)),
    "nobody answers from the first second": Perturbation(outage=(2, 32)),
    "two leaders for as long as a lease": Perturbation(rival=(27, 42)),
    "two leaders from the first second": Perturbation(rival=(1, 16)),
    "no right to touch pods": Perturbation(refused=("create Pod", "delete Pod", "apply Pod"), when=(29, 59)),
    "no right to write a status": Perturbation(refused=("apply OPTTraining",), when=(29, 59)),
    "the quota is exhausted": Perturbation(refused=("create Pod", "create Job"), when=(5, 45)),
    "children are edited by hand": Perturbation(hand=(15, 45)),
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_it_comes_to_the_same_end(name: str, trouble: str) -> None:
    run = run_of(name, TROUBLES[trouble])
    found = end_of(play(run))
    assert not run.doubled
    assert {key: found[key] for key in SCENARIOS[name].end} == SCENARIOS[name].end
