"""Ranks that are persistently slower than their peers, told by their own compute time and not by the step time.

In a synchronous gang all ranks have the same step time; only the part before the collective tells who keeps the others
waiting. BLOOM lost 5 to 6 % of its throughput to one such device and found it by swapping hosts one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from opt_api.training.resilience import HostChecks

LEAST_SHARE = 0.1
"""Of the step's wall time that a slow rank must cost its peers to be worth a swap."""


@dataclass(frozen=True, slots=True)
class StragglerState:
    """Consecutive steps for which each rank was above the margin, and its newest ratio to its peers' median."""

    streaks: Mapping[int, int] = field(default_factory=dict)
    ratios: Mapping[int, float] = field(default_factory=dict)


def observe_step(
    state: StragglerState, compute_seconds: Mapping[int, float], checks: HostChecks, step_seconds: float = 0.0
) -> StragglerState:
    """Fold in one step's own compute seconds of every rank; fewer than two ranks say nothing.

    Where computing is a small part of a step's wall time, ratios are noise: a rank is slow only if it costs its peers a
    noticeable part of the step.
    """
    if len(compute_seconds) < 2:
        return state
    ratios = {rank: _ratio(rank, compute_seconds) for rank in compute_seconds}
    dear = {rank for rank in ratios if _more(rank, compute_seconds) > LEAST_SHARE * step_seconds}
    streaks = {
        rank: state.streaks.get(rank, 0) + 1 if ratio > checks.straggler_ratio and rank in dear else 0
        for rank, ratio in ratios.items()
    }
    return StragglerState(streaks, ratios)


def stragglers(state: StragglerState, checks: HostChecks) -> dict[int, str]:
    """Ranks above the margin for `straggler_steps` steps in a row, with the evidence in words."""
    return {
        rank: f"rank {rank}: own compute time {state.ratios[rank]:.2f} x its peers' median, above "
        f"{checks.straggler_ratio} for {streak} steps in a row"
        for rank, streak in state.streaks.items()
        if streak >= checks.straggler_steps
    }


def _peers(rank: int, seconds: Mapping[int, float]) -> float:
    return median(value for other, value in seconds.items() if other != rank)


def _ratio(rank: int, seconds: Mapping[int, float]) -> float:
    peers = _peers(rank, seconds)
    return seconds[rank] / peers if peers > 0 else 1.0


def _more(rank: int, seconds: Mapping[int, float]) -> float:
    return seconds[rank] - _peers(rank, seconds)
