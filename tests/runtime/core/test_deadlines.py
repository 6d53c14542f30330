"""Quantiles, deadlines, stragglers, the save interval."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opt_api.resolve.checkpointing import young_daly_seconds
from opt_api.training.resilience import HostChecks, SectionDeadlines
from opt_runtime.core.deadlines import DeadlineBook
from opt_runtime.core.interval import hours_between_faults
from opt_runtime.core.quantile import WindowQuantile
from opt_runtime.core.stragglers import StragglerState, observe_step, stragglers

pytestmark = pytest.mark.unit


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0, 1), st.integers(1, 20))
def test_the_window_is_exact(values: list[float], q: float, size: int) -> None:
    window = WindowQuantile(size)
    for value in values:
        window.add(value)
    last = sorted(values[-size:])
    assert window.quantile(q) == last[max(math.ceil(q * len(last)) - 1, 0)]


def test_an_empty_window_has_no_quantile_and_takes_no_nan() -> None:
    assert WindowQuantile().quantile(0.5) is None
    with pytest.raises(ValueError, match="finite"):
        WindowQuantile().add(math.nan)


def test_a_deadline_is_the_floor_or_five_times_p99() -> None:
    book, floors = DeadlineBook(), SectionDeadlines(step=1, eval=10)
    assert book.deadlines(floors)["step"] == 1
    for seconds in [0.1] * 99 + [9.0]:
        book.observe("step", seconds)
    book.observe("eval", 4.0)
    assert book.deadlines(floors)["step"] == 1.0
    assert book.deadlines(floors)["eval"] == 20.0


def test_a_successor_knows_what_is_usual_until_it_has_seen_enough_itself() -> None:
    before, after, floors = DeadlineBook(), DeadlineBook(), SectionDeadlines(step=1)
    for seconds in [0.5] * 30:
        before.observe("step", seconds)
    before.observe("save", 3.0)
    assert before.known() == {"step": 0.5}
    assert after.usual() == {}
    after.carry(before.known())
    assert after.usual() == {"step": 2.5}
    assert after.deadlines(floors)["step"] == 2.5
    for seconds in [0.1] * 19:
        after.observe("step", seconds)
    assert after.known() == {"step": 0.5}
    after.observe("step", 0.1)
    assert after.known() == {"step": 0.1}


CHECKS = HostChecks(straggler_ratio=1.3, straggler_steps=5)


def test_a_persistently_slow_rank_is_named_and_a_hiccup_is_not() -> None:
    state = StragglerState()
    for step in range(20):
        state = observe_step(state, {0: 1.0, 1: 1.0, 2: 2.0 if step % 4 else 1.0, 3: 1.4}, CHECKS)
    assert list(stragglers(state, CHECKS)) == [3]
    assert "1.40 x its peers' median" in stragglers(state, CHECKS)[3]


def test_all_ranks_slow_alike_are_no_stragglers() -> None:
    state = StragglerState()
    for _ in range(20):
        state = observe_step(state, {0: 9.0, 1: 9.0}, CHECKS)
    assert stragglers(state, CHECKS) == {}
    assert observe_step(state, {0: 100.0}, CHECKS) is state


@pytest.mark.parametrize(
    ("stall", "hours", "minutes"), [(60, 12.2, 38), (0.5, 12.2, 3.5), (60, 3.1, 19), (0.5, 3.1, 1.8)]
)
def test_the_interval_gives_the_figures_of_the_anchor_table(stall: float, hours: float, minutes: float) -> None:
    assert young_daly_seconds(stall, hours * 3600) / 60 == pytest.approx(minutes, rel=0.03)


def test_faults_that_were_seen_replace_the_assumption() -> None:
    assert hours_between_faults(12.2, 0, 0.0) == 12.2
    assert hours_between_faults(1.0, 35, 3600) == pytest.approx(200 / 3600)
    assert hours_between_faults(1.0, 0, 36_000) == 11.0


def test_a_rank_that_costs_its_peers_little_of_the_step_is_no_straggler() -> None:
    checks = HostChecks(straggler_steps=2)
    state = StragglerState()
    for _ in range(5):
        state = observe_step(state, {0: 0.01, 1: 0.02}, checks, step_seconds=0.2)
    assert stragglers(state, checks) == {}
    for _ in range(2):
        state = observe_step(state, {0: 0.1, 1: 0.2}, checks, step_seconds=0.2)
    assert set(stragglers(state, checks)) == {1}
