"""How the ranks of a gang agree on one checkpoint."""

from __future__ import annotations

from typing import Protocol

import torch.distributed as dist


class Peers(Protocol):
    """The other ranks."""

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which chooses."""

    def from_first(self, value: bytes | None) -> bytes | None:
        """Rank 0's value, on every rank."""

    def all(self, value: str) -> list[str]:
        """Every rank's value, in the order of the ranks, on every rank."""


class Alone:
    """One process."""

    first = True

    def from_first(self, value: bytes | None) -> bytes | None:
        """See `Peers`."""
        return value

    def all(self, value: str) -> list[str]:
        """See `Peers`."""
        return [value]


class GroupPeers:
    """The ranks of a process group."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group

    @property
    def first(self) -> bool:
        """See `Peers`."""
        return dist.get_rank(self._group) == 0

    def from_first(self, value: bytes | None) -> bytes | None:
        """See `Peers`."""
        box = [value]
        dist.broadcast_object_list(box, group=self._group, group_src=0)
        return box[0]

    def all(self, value: str) -> list[str]:
        """See `Peers`."""
        values: list[str] = [""] * dist.get_world_size(self._group)
        dist.all_gather_object(values, value, group=self._group)
        return values
