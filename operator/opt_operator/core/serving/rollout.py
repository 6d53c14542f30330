"""Sizes and weights during a roll, and when a revision is at fault. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from opt_operator.core.serving.views import RevisionCount

Stage = Literal["Surge", "Canary", "Shift", "Bake", "Back"]
MIN_FAILURES = 3
"""So many failed requests at least: one of two would be a half of all."""


@dataclass(frozen=True, slots=True)
class Split:
    """Replicas, or weights, of the old and of the new revision."""

    old: int
    new: int


def sizes(stage: Stage, wanted: int, surge: int, new_ready: int, canary_percent: int) -> Split:
    """Replicas of both: never fewer that answer than `wanted`, never more in all than `wanted + surge`.

    In `Bake` the old one stays as far as the surge has room for it, so that going back takes no start.
    """
    if wanted == 0:
        return Split(0, 0)
    if stage in ("Surge", "Canary"):
        first = max(1, -(-wanted * canary_percent // 100))
        return Split(wanted, min(first, surge, wanted))
    if stage == "Back":
        return Split(wanted, 0)
    old = max(wanted - new_ready, min(surge, wanted))
    return Split(old, min(wanted, wanted + surge - old))


def weights(stage: Stage, wanted: int, new_ready: int, canary_percent: int) -> Split:
    """Shares of new requests."""
    if stage in ("Surge", "Back"):
        return Split(1, 0)
    if stage == "Canary":
        return Split(100 - canary_percent, canary_percent)
    if stage == "Bake" or new_ready >= wanted:
        return Split(0, 1)
    return Split(max(wanted - new_ready, 0), new_ready)


def at_fault(counts: Iterable[RevisionCount], max_error_ratio: float) -> str:
    """Why a revision must not get more requests; empty while it may."""
    found = list(counts)
    requests, failures = sum(c.requests for c in found), sum(c.failures for c in found)
    if failures < MIN_FAILURES or failures <= max_error_ratio * requests:
        return ""
    return f"{failures} of its {requests} requests failed; allowed is a share of {max_error_ratio:g}"
