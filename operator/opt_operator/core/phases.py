"""Phases of a training and which may follow which: a table."""

from __future__ import annotations

from typing import get_args

from opt_api.training.status import Phase

PHASES: tuple[Phase, ...] = get_args(Phase)
TERMINAL: frozenset[Phase] = frozenset({"Succeeded", "Failed"})

_WORKING: frozenset[Phase] = frozenset(
    {"Preparing", "Queued", "Starting", "Running", "Recovering", "Suspended", "Paused", "Evaluating", "Succeeded",
     "Failed", "Deleting"}
)  # fmt: skip
TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    "Pending": _WORKING,
    "Preparing": _WORKING - {"Running", "Recovering", "Evaluating"},
    "Queued": _WORKING - {"Evaluating"},
    "Starting": _WORKING,
    "Running": _WORKING - {"Preparing"},
    "Recovering": _WORKING - {"Preparing"},
    "Suspended": _WORKING - {"Running", "Recovering"},
    "Paused": _WORKING,
    "Evaluating": frozenset({"Suspended", "Paused", "Succeeded", "Failed", "Deleting"}),
    "Succeeded": frozenset({"Deleting"}),
    "Failed": frozenset({"Deleting"}),
    "Deleting": frozenset(),
}
"""Where a phase may go. Whatever happens to children, nothing but deletion follows a terminal phase."""
MEANING: dict[Phase, str] = {
    "Pending": "nothing made yet; or the spec cannot run and says why",
    "Preparing": "raw text is being turned into a data set",
    "Queued": "pods wait for room or for a queue",
    "Starting": "pods start and report; no step of this gang yet",
    "Running": "steps are being made",
    "Recovering": "a host or the gang is being replaced",
    "Suspended": "saved, stopped, hosts given back",
    "Paused": "recovery needs a person, or hosts that are not there",
    "Evaluating": "trained; the last evaluation runs",
    "Succeeded": "done to the last stage that was asked for",
    "Failed": "cannot be done with this spec",
    "Deleting": "the resource is going",
}


def allowed(before: Phase | None, after: Phase) -> bool:
    """Whether a phase may follow another; the first one may be any."""
    return before is None or before == after or after in TRANSITIONS[before]
