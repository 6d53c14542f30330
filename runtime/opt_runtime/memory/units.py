"""How the state of a gang is divided into units, so that what several ranks hold alike is kept once a host.

The world is replicas x pieces, pieces innermost: ranks with the same number modulo `pieces` hold equal bits. Where a
host has several of them, each keeps its share of the piece; where hosts have the same units, they are each other's
copies.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Division:
    """Of the state of one gang.

    Attributes:
        pieces: Parts of the state that differ; every rank holds one whole.
        per_host: Ranks of each host.
    """

    pieces: int
    per_host: int

    @property
    def shares(self) -> int:
        """Units that a piece is kept as: one for each of a host's ranks that hold it, if every host has all pieces."""
        return self.per_host // self.pieces if self.per_host % self.pieces == 0 else 1

    @property
    def units(self) -> int:
        """Different units; a rank keeps unit `rank % units`."""
        return self.pieces * self.shares

    def beside(self, local_rank: int) -> tuple[int, ...]:
        """Local ranks that keep the shares of this one's piece, in the order of the shares."""
        if self.shares == 1:
            return (local_rank,)
        return tuple(range(local_rank % self.pieces, self.per_host, self.pieces))

    def alike(self, one: int, other: int) -> bool:
        """Whether the hosts at these places of the gang keep the same units."""
        return (one - other) * self.per_host % self.units == 0
