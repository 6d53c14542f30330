"""Planted near-duplicates, and the exact answer by brute force with plain Python sets."""

from __future__ import annotations

import random
from itertools import combinations


def edited(text: str, edits: int, rng: random.Random) -> str:
    """The text with `edits` of its words replaced by new ones, at places drawn at random."""
    words = text.split()
    for place in rng.sample(range(len(words)), edits):
        words[place] = f"edit{rng.getrandbits(48):x}"
    return " ".join(words)


def shingles(text: str, size: int = 5) -> frozenset[tuple[str, ...]]:
    words = text.split()
    if not words:
        return frozenset()
    return frozenset(tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1)))


def similarity(one: frozenset, other: frozenset) -> float:
    return len(one & other) / len(one | other)


def similar_pairs(texts: list[str], threshold: float) -> dict[tuple[int, int], float]:
    """All pairs at or above the threshold; pairs whose sizes rule it out are left out without a look."""
    sets = [shingles(text) for text in texts]
    found = {}
    for (i, one), (j, other) in combinations(enumerate(sets), 2):
        if min(len(one), len(other)) >= threshold * max(len(one), len(other)):
            value = similarity(one, other)
            if value >= threshold:
                found[i, j] = value
    return found


def survivors(texts: list[str], threshold: float) -> set[int]:
    """Who stays if every pair is known: longest first, then the first; a document goes if one that stays is similar."""
    pairs = similar_pairs(texts, threshold)
    near: dict[int, set[int]] = {i: set() for i in range(len(texts))}
    for i, j in pairs:
        near[i].add(j)
        near[j].add(i)
    kept: set[int] = set()
    for i in sorted(range(len(texts)), key=lambda i: (-len(texts[i].encode()), i)):
        if not near[i] & kept:
            kept.add(i)
    return kept


def planted(texts: list[str], most_edits: int, seed: int) -> list[str]:
    """Each text and two copies of it with a few random edits: Jaccard from below 0.8 to 1."""
    rng = random.Random(seed)
    copies = []
    for text in texts:
        words = len(text.split())
        copies += [text, *(edited(text, rng.randint(0, min(words, most_edits)), rng) for _ in range(2))]
    return copies
