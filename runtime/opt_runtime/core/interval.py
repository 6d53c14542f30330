"""How often something breaks, as measured: what the interval between saves is chosen by.

Workers know what a save costs them and the coordinator knows how often recovery was needed; each attempt begins with
the newest estimate, and takes Young and Daly's interval from both (`opt_api.resolve.checkpointing`).
"""

from __future__ import annotations


def hours_between_faults(assumed_hours: float, faults: int, watched_seconds: float) -> float:
    """Mean time between faults; the assumption weighs as much as one fault seen (a gamma prior of shape 1).

    Args:
        assumed_hours: Of the plan.
        faults: Recoveries so far.
        watched_seconds: Wall time in which they happened.
    """
    return (assumed_hours + watched_seconds / 3600) / (1 + faults)
