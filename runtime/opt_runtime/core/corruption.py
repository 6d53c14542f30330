"""Replicas that disagree: silent corruption, told by what each rank measured before anything was added up.

Ranks that hold the same part of the model compute its norm and that of its summed gradients from equal bits, so they
get equal numbers. A rank that does not has another weight, or another gradient, than its peers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

TOLERANCE = 1e-6
"""Relative; processors of another make may add up float32 in another order, which is worth a tenth of this."""


@dataclass(frozen=True, slots=True)
class Norms:
    """One rank's own part of both norms."""

    gradient: float | None
    parameter: float | None


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Ranks that disagree at a step.

    Attributes:
        step: Whose numbers they are; the state after the step before may be spoilt.
        ranks: Those that differ from the majority; all of them where there is none.
        named: Whether a majority says who is wrong.
        evidence: In words.
    """

    step: int
    ranks: tuple[int, ...]
    named: bool
    evidence: str


def disagreement(step: int, norms: Mapping[int, Norms], replicas: int) -> Disagreement | None:
    """The first disagreement among the replicas of one step; None when all agree, or nothing is held twice.

    Args:
        step: See `Disagreement`.
        norms: Of every rank of the gang.
        replicas: Ranks that hold the same part; rank r holds the same as r + n x (world / replicas).
    """
    apart = len(norms) // max(replicas, 1)
    for first in range(apart if replicas > 1 else 0):
        group = [rank for rank in sorted(norms) if rank % apart == first]
        for name in ("parameter", "gradient"):
            if found := _odd(step, name, {rank: getattr(norms[rank], name) for rank in group}):
                return found
    return None


def _odd(step: int, name: str, values: Mapping[int, float | None]) -> Disagreement | None:
    known = {rank: value for rank, value in values.items() if value is not None}
    if len(known) < 2:
        return None
    middle = sorted(known.values())[len(known) // 2] if len(known) > 2 else median(known.values())
    odd = tuple(rank for rank, value in known.items() if abs(value - middle) > TOLERANCE * max(abs(middle), 1e-30))
    if not odd:
        return None
    named = len(odd) * 2 < len(known)
    said = ", ".join(f"rank {rank}: {value!r}" for rank, value in known.items())
    words = f"replicas disagree on their own {name} norm at step {step}: {said}"
    return Disagreement(step, odd if named else tuple(known), named, words)
