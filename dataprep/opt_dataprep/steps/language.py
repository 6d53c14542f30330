"""A language rule without a model: the script of the letters and the rate of stop words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from opt_api.training.data import LanguageRule

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
"""Gopher's list (arXiv 2112.11446, A.1.1)."""
COMMON_WORDS = STOP_WORDS | frozenset(
    "a an are as at by can for from if in is it its may not on or this was which will you".split()  # noqa: SIM905 - as above
)
"""Function words that are rare in other languages taken together; English prose has about one in three."""
FULL_RATE = 0.25
"""Rate of function words at and above which there is no doubt."""
_LATIN = re.compile("[A-Za-z]")
_LETTER = re.compile(r"[^\W\d_]")
_SAMPLE = 20_000


def english_score(text: str) -> float:
    """Product of two shares in [0, 1]: letters that are ASCII, and function words against `FULL_RATE`.

    Looks at the first 20,000 characters.
    """
    sample = text[:_SAMPLE]
    letters = len(_LETTER.findall(sample))
    words = re.findall(r"[^\W\d_]+", sample.lower())
    if not letters or not words:
        return 0.0
    rate = sum(word in COMMON_WORDS for word in words) / len(words)
    return len(_LATIN.findall(sample)) / letters * min(1.0, rate / FULL_RATE)


def language_rule(rule: LanguageRule | None) -> Iterator[Callable[[str], str | None]]:
    """Yield the rule, if one is declared."""
    if rule is not None:
        least = rule.min_score
        yield lambda text: "language" if english_score(text) < least else None
