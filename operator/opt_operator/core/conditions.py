"""Conditions: their types, and how they move. The transition time moves only when the status flips."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from opt_api.conditions import Condition, ConditionStatus

Type = Literal[
    "Ready", "Progressing", "Degraded", "Suspended", "CheckpointFresh", "DatasetReady", "SourceReady", "GatePassed"
]
TYPES: tuple[Type, ...] = get_args(Type)
MAX_MESSAGE = 2000


@dataclass(frozen=True, slots=True)
class Said:
    """What is to be said of one aspect."""

    status: ConditionStatus
    reason: str
    message: str = ""


def said(*, holds: bool | None, reason: str, message: str = "") -> Said:
    """True, False, or not known (None)."""
    status: ConditionStatus = "Unknown" if holds is None else "True" if holds else "False"
    return Said(status, reason, message)


def moved(
    before: Iterable[Condition], now: datetime, generation: int, words: Mapping[Type, Said]
) -> tuple[Condition, ...]:
    """The conditions after `words` were said; those not spoken of stay."""
    old = {condition.type: condition for condition in before}
    made = [_one(old.get(kind), kind, words[kind], now, generation) for kind in TYPES if kind in words]
    kept = [condition for kind, condition in old.items() if kind not in words]
    order = {kind: index for index, kind in enumerate(TYPES)}
    return tuple(sorted((*made, *kept), key=lambda c: (order.get(c.type, len(order)), c.type)))  # type: ignore[call-overload]


def _one(old: Condition | None, kind: Type, word: Said, now: datetime, generation: int) -> Condition:
    flipped = old is None or old.status != word.status
    return Condition(
        type=kind,
        status=word.status,
        reason=word.reason,
        message=word.message[:MAX_MESSAGE],
        observed_generation=generation,
        last_transition_time=now if old is None or flipped else old.last_transition_time,
    )
