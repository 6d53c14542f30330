"""How likely the spare hosts run out, and how many would do."""

from __future__ import annotations

import math

from opt_api.base import Model
from opt_api.training.resilience import ResilienceSpec
from opt_api.types import Fraction, NonNegative, Whole


class Spares(Model):
    """Hosts away for replacement at one time are Poisson with mean rate x refill time (M/G/infinity queue)."""

    spares: Whole
    losses_per_day: NonNegative
    refill_hours: NonNegative
    mean_away: NonNegative
    run_out: Fraction
    """Probability that more hosts are away than there are spares."""
    needed_99: Whole
    needed_999: Whole
    """Spares with which that probability is at most 1 % and 0.1 %."""


def spares(spec: ResilienceSpec) -> Spares:
    """The estimate for the assumed loss rate and refill time."""
    mean = spec.host_loss_per_day * spec.spare_refill_hours / 24
    return Spares(
        spares=spec.spares,
        losses_per_day=spec.host_loss_per_day,
        refill_hours=spec.spare_refill_hours,
        mean_away=mean,
        run_out=exceeds(mean, spec.spares),
        needed_99=needed(mean, 0.01),
        needed_999=needed(mean, 0.001),
    )


def exceeds(mean: float, count: int) -> float:
    """P(N > count) for a Poisson N, summed from the side with the smaller sum, so that small tails stay exact."""
    if mean == 0:
        return 0.0
    if count + 1 > mean:
        return _sum(mean, count + 1, 1)
    return max(0.0, 1.0 - _sum(mean, count, -1))


def needed(mean: float, risk: float) -> int:
    """The smallest count with P(N > count) at most `risk`."""
    low, high = -1, math.ceil(mean) + 1
    while exceeds(mean, high) > risk:
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if exceeds(mean, middle) <= risk else (middle, high)
    return high


def _sum(mean: float, start: int, direction: int) -> float:
    """Poisson probabilities from `start` outwards, away from the mean, until they no longer count."""
    total, k = 0.0, start
    while k >= 0:
        term = math.exp(k * math.log(mean) - mean - math.lgamma(k + 1))
        total += term
        if term <= total * 1e-17:
            break
        k += direction
    return min(total, 1.0)
