"""The ledger of hosts: one state per machine, keyed by hardware identity, with its transitions as a table.

A machine that was given back under another name has the same provider id, serial or GPU UUID, and so the same entry:
what it did before still counts. (The team of OPT-175B was handed the same broken machines several times.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

HostState = Literal["Candidate", "BurnIn", "Spare", "InUse", "Suspect", "Quarantined", "Retired"]
HostEvent = Literal[
    "CheckStarted", "CheckPassed", "CheckFailed", "Assigned", "Released", "Faulted", "Lost", "Returned", "Condemned",
    "Pardoned", "GaveUp",
]  # fmt: skip

TRANSITIONS: dict[tuple[HostState, HostEvent], HostState] = {
    ("Candidate", "CheckStarted"): "BurnIn",
    ("Candidate", "Lost"): "Candidate",
    ("BurnIn", "CheckPassed"): "Spare",
    ("BurnIn", "CheckFailed"): "Quarantined",
    ("BurnIn", "Lost"): "Suspect",
    ("Spare", "Assigned"): "InUse",
    ("Spare", "Faulted"): "Suspect",
    ("Spare", "Lost"): "Suspect",
    ("Spare", "Condemned"): "Quarantined",
    ("InUse", "Released"): "Spare",
    ("InUse", "Faulted"): "Suspect",
    ("InUse", "Lost"): "Suspect",
    ("InUse", "Condemned"): "Quarantined",
    ("Suspect", "Returned"): "Candidate",
    ("Suspect", "CheckStarted"): "BurnIn",
    ("Suspect", "Condemned"): "Quarantined",
    ("Suspect", "Lost"): "Suspect",
    ("Quarantined", "Pardoned"): "Candidate",
    ("Quarantined", "GaveUp"): "Retired",
    ("Quarantined", "Lost"): "Quarantined",
}
"""Every change that may happen; anything else is an error. Only a person pardons. Nothing leaves Retired."""

REFUSED: frozenset[HostState] = frozenset({"Quarantined", "Retired"})
"""States in which a machine may not join, whatever name it comes with."""

REPEAT_FAULTS = 3
"""So many faults blamed on one machine within `REPEAT_WINDOW_S` are too many, where nobody says otherwise."""
REPEAT_WINDOW_S = 86_400.0
MIN_MASS = 2
"""The circuit breaker needs at least so many quarantined machines: one of two is no mass."""


class LedgerError(ValueError):
    """A transition that the table does not have, or a machine that is not in the ledger."""


@dataclass(frozen=True, slots=True)
class HostEntry:
    """One machine.

    Attributes:
        hardware: Its identity.
        state: Where it is.
        names: Every name it came with, oldest first.
        faults: When faults were blamed on it, in seconds of the ledger's clock.
        reason: Of the last change.
    """

    hardware: str
    state: HostState = "Candidate"
    names: tuple[str, ...] = ()
    faults: tuple[float, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HostLedger:
    """All machines by hardware identity; every method returns a new ledger."""

    entries: Mapping[str, HostEntry] = field(default_factory=dict)

    def admit(self, hardware: str, name: str) -> tuple[HostLedger, str]:
        """Take in a machine that reports; the word is why it is refused, empty when it is welcome."""
        entry = self.entries.get(hardware, HostEntry(hardware))
        names = entry.names if name in entry.names else (*entry.names, name)
        ledger = self._with(replace(entry, names=names))
        if entry.state not in REFUSED:
            return ledger, ""
        known = "" if names == entry.names else f" under the new name {name!r} (before: {', '.join(entry.names)})"
        return ledger, f"machine {hardware} is {entry.state}{known}: {entry.reason}"

    def apply(
        self,
        hardware: str,
        event: HostEvent,
        reason: str = "",
        at: float | None = None,
        max_faults: int = REPEAT_FAULTS,
    ) -> HostLedger:
        """One transition; `at` is given when the event is a fault to be remembered.

        A machine with `max_faults` remembered faults in the window is condemned at once.

        Raises:
            LedgerError: Unknown machine, or no such transition.
        """
        entry = self._entry(hardware)
        state = TRANSITIONS.get((entry.state, event))
        if state is None:
            allowed = ", ".join(e for (s, e) in TRANSITIONS if s == entry.state) or "nothing"
            raise LedgerError(f"machine {hardware}: {event} in state {entry.state}; allowed there: {allowed}")
        faults = entry.faults if at is None else (*entry.faults, at)
        ledger = self._with(replace(entry, state=state, faults=faults, reason=reason or entry.reason))
        return ledger if at is None else ledger._condemn_repeat_offender(hardware, at, max_faults)

    def allows(self, hardware: str, event: HostEvent) -> bool:
        """Whether the table has this transition for the machine now."""
        entry = self.entries.get(hardware)
        return entry is not None and (entry.state, event) in TRANSITIONS

    def state(self, hardware: str) -> HostState | None:
        """State of a machine; None for an unknown one."""
        entry = self.entries.get(hardware)
        return entry.state if entry else None

    def in_state(self, *states: HostState) -> tuple[HostEntry, ...]:
        """Machines in any of these states."""
        return tuple(entry for entry in self.entries.values() if entry.state in states)

    def breaker_open(self, max_fraction: float) -> str:
        """Why mass quarantine must stop the run; empty while it need not.

        When a large share of the machines fails its checks at once, the checks, the network or the job are at fault,
        and quarantining more of them would only take the whole cluster away.
        """
        quarantined = self.in_state("Quarantined")
        known = [entry for entry in self.entries.values() if entry.state != "Retired"]
        if len(quarantined) < MIN_MASS or len(quarantined) <= max_fraction * len(known):
            return ""
        return f"{len(quarantined)} of {len(known)} machines are quarantined, more than a share of {max_fraction:g}"

    def _condemn_repeat_offender(self, hardware: str, now: float, max_faults: int) -> HostLedger:
        entry = self._entry(hardware)
        recent = [fault for fault in entry.faults if now - fault <= REPEAT_WINDOW_S]
        if len(recent) < max_faults or not self.allows(hardware, "Condemned"):
            return self
        reason = f"{len(recent)} faults within {REPEAT_WINDOW_S / 3600:g} h, the last: {entry.reason}"
        return self.apply(hardware, "Condemned", reason)

    def _entry(self, hardware: str) -> HostEntry:
        try:
            return self.entries[hardware]
        except KeyError:
            known = ", ".join(sorted(self.entries)) or "none"
            raise LedgerError(f"machine {hardware}: not in the ledger; known: {known}") from None

    def _with(self, entry: HostEntry) -> HostLedger:
        return HostLedger({**self.entries, entry.hardware: entry})
