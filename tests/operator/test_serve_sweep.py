"""The operator dies after each of its writes, sees late or nothing, and is refused: the end is the same."""

from __future__ import annotations

import pytest

from support.opmodel.serve_harness import Perturbation, play
from support.opmodel.serve_scenarios import SCENARIOS, end_of, run_of


def wrong_ends(name: str, every: int) -> list[tuple[int, str, object]]:
    """Deaths after which a scenario ended otherwise: number of the write, the write, what differs."""
    base = run_of(name)
    play(base)
    assert base.writes > 10
    wanted, wrong = SCENARIOS[name].end, []
    for index in range(0, base.writes, every):
        run = run_of(name, die_at=index)
        found = end_of(play(run))
        different = {key: (found[key], wanted[key]) for key in wanted if found[key] != wanted[key]}
        if different or run.deaths != 1:
            wrong.append((index, base.world.api.history[index], different))
    return wrong


@pytest.mark.integration
def test_it_may_die_in_the_middle_of_a_roll() -> None:
    assert wrong_ends("newer", every=4) == []


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SCENARIOS)
def test_it_may_die_after_any_write(name: str) -> None:
    assert wrong_ends(name, every=1) == []


TROUBLES = {
    "late": Perturbation(lag=3),
    "a tenth of events never come": Perturbation(drop=0.1, seed=1),
    "half of events never come": Perturbation(drop=0.5, seed=2),
    "conflicts": Perturbation(faults=0.3, status=409, seed=3),
    "errors and late": Perturbation(faults=0.3, status=500, lag=4, drop=0.1, seed=6),
}


@pytest.mark.integration
@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("name", ["newer", "unfit", "awake"])
def test_it_comes_to_the_same_end(name: str, trouble: str) -> None:
    """What was served on the way is another matter: who sees late sees the newer checkpoint first."""
    wanted = {key: value for key, value in SCENARIOS[name].end.items() if key != "previous"}
    found = end_of(play(run_of(name, TROUBLES[trouble])))
    assert {key: found[key] for key in wanted} == wanted
