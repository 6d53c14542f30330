"""How often to save: Young and Daly's interval, from stalls and faults as they are measured."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SaveCost:
    """What saving cost and how often something broke, so far.

    Attributes:
        assumed_stall_s: Stall of one save before one was measured.
        assumed_between_faults_s: Mean time between faults before any was seen.
        stalls: Saves measured.
        stall_s: Their stalls in all, in seconds.
        faults: Faults that cost work.
        watched_s: Wall time in which they happened.
        durable_s: Longest time from the beginning of a save until it was durable.
    """

    assumed_stall_s: float
    assumed_between_faults_s: float
    stalls: int = 0
    stall_s: float = 0.0
    faults: int = 0
    watched_s: float = 0.0
    durable_s: float = 0.0

    @property
    def stall(self) -> float:
        """Seconds that one save costs: the mean of those measured."""
        return self.stall_s / self.stalls if self.stalls else self.assumed_stall_s

    @property
    def between_faults(self) -> float:
        """Seconds between faults. The assumption weighs as much as one fault seen (a gamma prior of shape 1)."""
        return (self.assumed_between_faults_s + self.watched_s) / (1 + self.faults)


def interval_seconds(cost: SaveCost) -> float:
    """sqrt(2 x stall x mean time between faults), and never shorter than a save takes to be durable.

    Sources: J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17(9), 1974;
    J. T. Daly, FGCS 22(3), 2006, whose first-order term this is, exact enough while the stall is far below the
    interval.
    """
    return max(math.sqrt(2.0 * cost.stall * cost.between_faults), cost.durable_s)


def interval_steps(cost: SaveCost, step_seconds: float) -> int:
    """The same in whole optimiser steps, at least one.

    Raises:
        ValueError: A step that takes no time.
    """
    if not step_seconds > 0:
        raise ValueError(f"step_seconds {step_seconds}: it must be above 0")
    return max(1, round(interval_seconds(cost) / step_seconds))
