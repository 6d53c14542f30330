"""Who stays of a set of candidates: longest first, a document goes if one that stays is similar enough.

So every dropped document has a kept one at or above the threshold, which plain connected components do not promise
(docs/decisions/0052), and no two kept ones are that similar.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from opt_dataprep.dedup.shingles import jaccard

_SLACK = 1e-9
"""Thresholds are decimal fractions; 0.95 x 20 must count as 19."""


@dataclass(frozen=True)
class Member:
    """A candidate: number, component, bytes of text, sorted shingle set."""

    number: int
    component: int
    length: int
    shingles: NDArray[np.uint64]


@dataclass
class Result:
    """Drops as (number, keeper, similarity), and how many pairs were compared."""

    drops: list[tuple[int, int, float]] = field(default_factory=list)
    compared: int = 0

    def cluster_sizes(self) -> Iterable[int]:
        """Documents of each cluster, the kept one included."""
        return (count + 1 for count in Counter(keeper for _, keeper, _ in self.drops).values())


def keep_longest(members: list[Member], threshold: float) -> Result:
    """Judge candidates among themselves: keepers are the longest, then the smallest number.

    A pair is compared only if their prefixes share a shingle: sets with a Jaccard of at least t share an element among
    the first n - ceil(t n) + 1 of each, in any common order (Bayardo et al., "Scaling Up All Pairs Similarity Search",
    WWW 2007). The order here is that of the hashes, so nothing else need be known of the corpus.
    """
    result = Result()
    index: dict[int, list[Member]] = defaultdict(list)
    for member in sorted(members, key=_rank):
        prefix = prefix_of(member.shingles, threshold).tolist()
        sharing = {kept.number: kept for shingle in prefix for kept in index.get(shingle, ())}
        keeper = _first_similar(member, sorted(sharing.values(), key=_rank), threshold, result)
        if keeper is None:
            for shingle in prefix:
                index[shingle].append(member)
    return result


def _rank(member: Member) -> tuple[int, int]:
    return -member.length, member.number


def prefix_of(shingles: NDArray[np.uint64], threshold: float) -> NDArray[np.uint64]:
    """The shingles of which one is shared with every set that is similar enough."""
    return shingles[: len(shingles) - math.ceil(threshold * len(shingles) - _SLACK) + 1]


def _first_similar(member: Member, kept: list[Member], threshold: float, result: Result) -> Member | None:
    size = len(member.shingles)
    for other in kept:
        shorter, longer = sorted((size, len(other.shingles)))
        if shorter < threshold * longer - _SLACK:
            continue
        result.compared += 1
        found = jaccard(member.shingles, other.shingles)
        if found >= threshold - _SLACK:
            result.drops.append((member.number, other.number, found))
            return other
    return None
