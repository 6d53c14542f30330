"""Spares: the known figures, and the distribution against exact sums."""

from __future__ import annotations

from decimal import Decimal, getcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opt_api.estimate.spares import exceeds, needed, spares
from opt_api.training.resilience import ResilienceSpec

pytestmark = pytest.mark.unit


def exact_tail(mean: Decimal, count: int) -> Decimal:
    """P(N > count) from the probabilities up to `count`, with 80 digits."""
    getcontext().prec = 80
    term = total = (-mean).exp()
    for k in range(1, count + 1):
        term = term * mean / k
        total += term
    return 1 - total


def test_two_losses_a_day_and_two_days_to_refill():
    found = spares(ResilienceSpec(host_loss_per_day=2, spare_refill_hours=48, spares=4))
    assert found.mean_away == 4
    assert found.run_out == pytest.approx(0.37, abs=0.005)
    assert exceeds(4, 12) == pytest.approx(0.0003, abs=0.00005)
    assert (found.needed_99, found.needed_999) == (9, 11)


@given(st.decimals("0.001", "60", places=3), st.integers(0, 120))
def test_the_tail_is_exact_down_to_tiny_probabilities(mean, count):
    assert exceeds(float(mean), count) == pytest.approx(float(exact_tail(mean, count)), rel=1e-9, abs=1e-60)


@given(st.floats(0, 5000), st.sampled_from([0.01, 0.001]))
def test_needed_is_the_smallest_that_is_enough(mean, risk):
    count = needed(mean, risk)
    assert exceeds(mean, count) <= risk
    assert count == 0 or exceeds(mean, count - 1) > risk


def test_the_largest_rates_the_spec_allows_are_answered():
    found = spares(ResilienceSpec(host_loss_per_day=10_000, spare_refill_hours=8760, spares=1024))
    assert found.run_out == 1
    assert found.needed_99 > found.mean_away


def test_without_a_loss_rate_nothing_runs_out():
    found = spares(ResilienceSpec())
    assert (found.run_out, found.needed_99) == (0, 0)
