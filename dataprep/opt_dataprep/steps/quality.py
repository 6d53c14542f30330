"""Document rules after Gopher (arXiv 2112.11446, table A1); a rule that is not declared does not run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from opt_api.training.data import QualityRules
from opt_dataprep.steps.language import STOP_WORDS

_BULLETS = ("•", "‣", "◦", "-", "*", "–")
_ELLIPSES = ("...", "…")


@dataclass(frozen=True)
class View:
    """One text, with what several rules need computed once."""

    text: str

    @functools.cached_property
    def words(self) -> list[str]:
        """Runs of non-blanks."""
        return self.text.split()

    @functools.cached_property
    def lines(self) -> list[str]:
        """Lines that are not blank, without blanks around them."""
        return [line.strip() for line in self.text.splitlines() if line.strip()]

    def mean_word_length(self) -> float:
        """Characters per word."""
        return sum(map(len, self.words)) / max(1, len(self.words))

    def symbol_to_word_ratio(self) -> float:
        """Hashes and ellipses per word."""
        return (self.text.count("#") + sum(map(self.text.count, _ELLIPSES))) / max(1, len(self.words))

    def bullet_line_ratio(self) -> float:
        """Share of lines that begin with a bullet."""
        return sum(line.startswith(_BULLETS) for line in self.lines) / max(1, len(self.lines))

    def ellipsis_line_ratio(self) -> float:
        """Share of lines that end in an ellipsis."""
        return sum(line.endswith(_ELLIPSES) for line in self.lines) / max(1, len(self.lines))

    def alphabetic_word_ratio(self) -> float:
        """Share of words with at least one letter."""
        return sum(any(map(str.isalpha, word)) for word in self.words) / max(1, len(self.words))

    def stop_words(self) -> int:
        """How many different words of the list occur."""
        return len(STOP_WORDS.intersection(word.lower() for word in self.words))

    def duplicate_line_ratio(self) -> float:
        """Share of lines that repeat an earlier one."""
        return 1 - len(set(self.lines)) / max(1, len(self.lines))


MEASURES: dict[str, Callable[[View], float]] = {
    "min_words": lambda view: len(view.words),
    "max_words": lambda view: len(view.words),
    "min_mean_word_length": View.mean_word_length,
    "max_mean_word_length": View.mean_word_length,
    "max_symbol_to_word_ratio": View.symbol_to_word_ratio,
    "max_bullet_line_ratio": View.bullet_line_ratio,
    "max_ellipsis_line_ratio": View.ellipsis_line_ratio,
    "min_alphabetic_word_ratio": View.alphabetic_word_ratio,
    "min_stop_words": View.stop_words,
    "max_duplicate_line_ratio": View.duplicate_line_ratio,
}
"""What each rule measures; its name says whether the bound is the least or the most."""


def quality_rules(rules: QualityRules) -> Iterator[Callable[[str], str | None]]:
    """Yield one function that applies the declared rules in order and names the first that fails."""
    declared = [
        (name, measure, bound, name.startswith("min_"))
        for name, measure in MEASURES.items()
        if (bound := getattr(rules, name)) is not None
    ]

    def judge(text: str) -> str | None:
        view = View(text)
        for name, measure, bound, least in declared:
            value = measure(view)
            if (value < bound) if least else (value > bound):
                return name
        return None

    if declared:
        yield judge
