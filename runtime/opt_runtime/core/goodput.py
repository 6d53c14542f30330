"""The goodput ledger: every second of every host in exactly one class, so that the classes add up to the wall time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from opt_api.documents.logbook import GoodputClass
from opt_api.training.resilience import Section

CLASSES: tuple[GoodputClass, ...] = get_args(GoodputClass)

BY_SECTION: dict[Section, GoodputClass] = {
    "init": "init",
    "load": "load",
    "data": "load",
    "step": "productive",
    "save": "save_stall",
    "eval": "eval",
    "shutdown": "save_stall",
}
"""What a second in a section counts as; `redone` instead of `productive` below the highest step ever reached."""


def class_of(section: Section, step: int, highest_step: int) -> GoodputClass:
    """Class of a rank that is in `section` with `step` steps done, when `highest_step` were once done before."""
    found = BY_SECTION[section]
    return "redone" if found == "productive" and step < highest_step else found


@dataclass(frozen=True, slots=True)
class HostClock:
    """One host: its class since a moment, and the seconds it spent in each class before."""

    began: float
    since: float
    current: GoodputClass
    seconds: Mapping[GoodputClass, float] = field(default_factory=dict)
    ended: bool = False

    def switch(self, to: GoodputClass, now: float) -> HostClock:
        """Another class from `now` on. A moment before the last switch counts as that switch."""
        if self.ended or to == self.current:
            return self
        return HostClock(self.began, max(now, self.since), to, self._closed(now))

    def end(self, now: float) -> HostClock:
        """The host left; its seconds no longer grow."""
        if self.ended:
            return self
        return HostClock(self.began, max(now, self.since), self.current, self._closed(now), ended=True)

    def totals(self, now: float) -> dict[GoodputClass, float]:
        """Seconds of every class until `now`."""
        found = dict.fromkeys(CLASSES, 0.0)
        found.update(self.seconds if self.ended else self._closed(now))
        return found

    def wall(self, now: float) -> float:
        """Seconds between joining and `now`, or leaving."""
        return (self.since if self.ended else max(now, self.since)) - self.began

    def _closed(self, now: float) -> dict[GoodputClass, float]:
        spent = max(now - self.since, 0.0)
        return {**self.seconds, self.current: self.seconds.get(self.current, 0.0) + spent}


class GoodputLedger:
    """The clocks of all hosts. A host that left and came back has one clock for each stay."""

    def __init__(self) -> None:
        self._clocks: dict[str, HostClock] = {}
        self._past: list[HostClock] = []

    def join(self, host: str, now: float, current: GoodputClass = "idle_spare") -> None:
        """Begin a host's clock; nothing if it runs already."""
        if host not in self._clocks:
            self._clocks[host] = HostClock(began=now, since=now, current=current)

    def switch(self, host: str, to: GoodputClass, now: float) -> None:
        """Put a host into another class; one that never joined joins."""
        self.join(host, now, to)
        self._clocks[host] = self._clocks[host].switch(to, now)

    def leave(self, host: str, now: float) -> None:
        """Stop a host's clock."""
        if clock := self._clocks.pop(host, None):
            self._past.append(clock.end(now))

    def current(self, host: str) -> GoodputClass | None:
        """Class a host is in."""
        clock = self._clocks.get(host)
        return clock.current if clock else None

    def totals(self, now: float) -> dict[GoodputClass, float]:
        """Seconds of every class over all hosts."""
        found = dict.fromkeys(CLASSES, 0.0)
        for clock in (*self._past, *self._clocks.values()):
            for name, seconds in clock.totals(now).items():
                found[name] += seconds
        return found

    def wall(self, now: float) -> float:
        """Host seconds in all, measured apart from the classes."""
        return sum(clock.wall(now) for clock in (*self._past, *self._clocks.values()))

    def ettr(self, now: float) -> float | None:
        """Productive over wall time of the hosts that were wanted (idle spares aside); None before the first second."""
        totals = self.totals(now)
        wanted = sum(totals.values()) - totals["idle_spare"]
        return totals["productive"] / wanted if wanted > 0 else None

    def state(self, now: float) -> dict[str, float]:
        """Seconds by class, to be stored and carried over by `carry`."""
        return {name: seconds for name, seconds in self.totals(now).items() if seconds}

    def carry(self, seconds: Mapping[str, float], now: float) -> None:
        """Take over what a coordinator before this one had measured.

        Raises:
            ValueError: A class that does not exist.
        """
        if unknown := set(seconds) - set(CLASSES):
            raise ValueError(f"goodput classes {sorted(unknown)}: allowed are {', '.join(CLASSES)}")
        known = {name: seconds[name] for name in CLASSES if name in seconds}
        began = now - sum(known.values())
        self._past.append(HostClock(began=began, since=now, current="idle_spare", seconds=known, ended=True))
