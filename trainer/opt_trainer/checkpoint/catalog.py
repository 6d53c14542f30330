"""Which checkpoints a run has, as one listing of the store shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from opt_api.documents.keys import checkpoint_prefix, checkpoints_prefix, manifest_key, mark_key, step_and_attempt
from opt_store import Store


@dataclass(frozen=True, slots=True)
class Found:
    """One checkpoint, or what a killed save left of one.

    Attributes:
        step, attempt: Which.
        prefix: Where.
        keys: All objects below `prefix`.
        size: Bytes of all objects.
    """

    step: int
    attempt: int
    prefix: str
    keys: frozenset[str] = field(repr=False)
    size: int

    @property
    def complete(self) -> bool:
        """Whether there is a manifest."""
        return manifest_key(self.prefix) in self.keys

    def marked(self, name: str) -> bool:
        """Whether it has a mark."""
        return mark_key(self.prefix, name) in self.keys


def catalog(store: Store, run: str) -> list[Found]:
    """Everything under the run's checkpoints, newest first: by attempt, then by step.

    The attempt comes first because a zombie of an older attempt may still publish a later step than its successor has
    reached, on a history that the successor may have left.
    """
    return catalog_of(run, ((info.key, info.size) for info in store.list(checkpoints_prefix(run))))


def catalog_of(run: str, objects: Iterable[tuple[str, int]]) -> list[Found]:
    """The same from (key, size) pairs; keys that belong to no checkpoint are left out."""
    groups: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for key, size in objects:
        if where := step_and_attempt(key):
            groups.setdefault((where[1], where[0]), []).append((key, size))
    return [
        Found(
            step,
            attempt,
            checkpoint_prefix(run, step, attempt),
            frozenset(k for k, _ in members),
            sum(n for _, n in members),
        )
        for (attempt, step), members in sorted(groups.items(), reverse=True)
    ]


def loadable(found: Iterable[Found]) -> list[Found]:
    """Those that a run may go on from, in the given order."""
    return [f for f in found if f.complete and not f.marked("Poisoned")]
