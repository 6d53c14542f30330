"""Phases of a served model and which may follow which: a table."""

from __future__ import annotations

from typing import get_args

from opt_api.serving.status import ServePhase

PHASES: tuple[ServePhase, ...] = get_args(ServePhase)
_ALIVE: frozenset[ServePhase] = frozenset(
    {"Loading", "Serving", "Rolling", "RollingBack", "Asleep", "Failed", "Deleting"}
)
TRANSITIONS: dict[ServePhase, frozenset[ServePhase]] = {
    "Pending": _ALIVE - {"Rolling", "RollingBack"},
    "Loading": _ALIVE,
    "Serving": _ALIVE,
    "Rolling": _ALIVE,
    "RollingBack": _ALIVE,
    "Asleep": _ALIVE,
    "Failed": _ALIVE | {"Pending"},
    "Deleting": frozenset(),
}
"""Where a phase may go. Nothing is final but deletion: a newer checkpoint or a changed spec may mend a failure."""
MEANING: dict[ServePhase, str] = {
    "Pending": "no checkpoint that may be served yet; or the spec cannot be followed and says why",
    "Loading": "there is a checkpoint, and no replica takes requests yet; the gateway holds them",
    "Serving": "as many replicas as wanted take requests, or are on their way",
    "Rolling": "a newer checkpoint, or the same one served in another way, is taking over",
    "RollingBack": "the checkpoint before is being brought back",
    "Asleep": "no replica; the gateway holds requests, and the first one wakes the model",
    "Failed": "nothing is served, and what the source offers cannot be",
    "Deleting": "the resource is going",
}


def allowed(before: ServePhase | None, after: ServePhase) -> bool:
    """Whether a phase may follow another; the first one may be any."""
    return before is None or before == after or after in TRANSITIONS[before]
