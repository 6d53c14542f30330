"""The chain of one source: decode, normalise, judge; every drop has a reason and is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from opt_api.training.data import DataSpec, Source
from opt_dataprep.steps.language import language_rule
from opt_dataprep.steps.normalise import NORMALISATIONS, decode
from opt_dataprep.steps.quality import quality_rules

Rule = Callable[[str], str | None]
"""From a text to the reason for dropping it, or None."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of one document: `reason` is None for a kept one."""

    text: str
    reason: str | None


@dataclass
class Cleaner:
    """The steps of one source, and what they did."""

    source: Source
    data: DataSpec
    repaired: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        names = self.source.normalisation if self.source.normalisation is not None else self.data.normalisation
        self._repairs = "utf8" in names
        self._steps = [NORMALISATIONS[name] for name in names]
        self._rules: list[Rule] = [*quality_rules(self.data.quality), *language_rule(self.data.language)]

    def clean(self, content: bytes | str) -> Cleaned:
        """Apply every step; the text of a dropped document is as far as it came."""
        text, whole = decode(content)
        if not whole:
            if not self._repairs:
                return Cleaned(text.encode("utf-8", "replace").decode(), "invalid_utf8")
            self.repaired["invalid_utf8"] += 1
        if "\0" in text:
            self.repaired["nul"] += self._repairs
        for step in self._steps:
            text = step(text)
        if not text.rstrip():
            return Cleaned(text, "empty")
        return Cleaned(text, next(filter(None, (rule(text) for rule in self._rules)), None))
