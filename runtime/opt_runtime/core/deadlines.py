"""How long a section may take before it counts as hung: max(floor, 5 x observed p99)."""

from __future__ import annotations

from opt_api.training.resilience import SECTIONS, Section, SectionDeadlines
from opt_runtime.core.quantile import WindowQuantile

FACTOR = 5.0
"""Deadline over observed p99, the factor that NVIDIA's resiliency extension calibrates its sections with."""
QUANTILE = 0.99


class DeadlineBook:
    """Observed durations of every section, and the deadlines that follow."""

    def __init__(self) -> None:
        self._observed: dict[Section, WindowQuantile] = {section: WindowQuantile() for section in SECTIONS}

    def observe(self, section: Section, seconds: float) -> None:
        """Note how long a section took that came to its end."""
        self._observed[section].add(seconds)

    def deadlines(self, floors: SectionDeadlines) -> dict[Section, float]:
        """Seconds allowed for each section, floors only where nothing was observed yet."""
        return {section: self._deadline(section, getattr(floors, section)) for section in SECTIONS}

    def _deadline(self, section: Section, floor: float) -> float:
        p99 = self._observed[section].quantile(QUANTILE)
        return max(float(floor), FACTOR * p99) if p99 is not None else float(floor)
