"""How long a section may take before it counts as hung: max(floor, 5 x observed p99)."""

from __future__ import annotations

from collections.abc import Mapping

from opt_api.training.resilience import SECTIONS, Section, SectionDeadlines
from opt_runtime.core.quantile import WindowQuantile

FACTOR = 5.0
"""Deadline over observed p99, the factor that NVIDIA's resiliency extension calibrates its sections with."""
QUANTILE = 0.99
ENOUGH = 20
"""Below so many observations a p99 says little, and only the floor counts."""


class DeadlineBook:
    """Observed durations of every section, and the deadlines that follow."""

    def __init__(self) -> None:
        self._observed: dict[Section, WindowQuantile] = {section: WindowQuantile() for section in SECTIONS}
        self._carried: Mapping[Section, float] = {}

    def observe(self, section: Section, seconds: float) -> None:
        """Note how long a section took that came to its end."""
        self._observed[section].add(seconds)

    def carry(self, known: Mapping[Section, float]) -> None:
        """Take what a coordinator before knew (see `known`); it counts until enough was seen here."""
        self._carried = known

    def known(self) -> dict[Section, float]:
        """p99 in seconds of the sections that were seen often."""
        found = {section: self._p99(section) for section in SECTIONS if self._often(section)}
        return {section: p99 for section, p99 in found.items() if p99 is not None}

    def deadlines(self, floors: SectionDeadlines) -> dict[Section, float]:
        """Seconds allowed for each section, floors only where nothing was observed yet."""
        return {section: self._deadline(section, getattr(floors, section)) for section in SECTIONS}

    def usual(self) -> dict[Section, float]:
        """5 x p99 without a floor, of the sections that were seen often: what tells waiting from working."""
        return {section: FACTOR * p99 for section, p99 in self.known().items()}

    def _often(self, section: Section) -> bool:
        return section in self._carried or len(self._observed[section]) >= ENOUGH

    def _p99(self, section: Section) -> float | None:
        seen = self._observed[section]
        return self._carried[section] if section in self._carried and len(seen) < ENOUGH else seen.quantile(QUANTILE)

    def _deadline(self, section: Section, floor: float) -> float:
        p99 = self._p99(section)
        return max(float(floor), FACTOR * p99) if p99 is not None else float(floor)
