"""Read-your-writes: nothing is decided on a training before the cache has seen what we last wrote to it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opt_operator.core.snapshot import Key
from opt_operator.shell.cache import Cache, newer

LIMIT_S = 30.0
"""A write that the cache has not seen by then is given up; the next list decides."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One write.

    Attributes:
        version: What the object must have, at least; empty where it is to go.
        uid: Of the object.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    version: str
    at_s: float


class Writes:
    """What was written and not yet seen, by training.

    Args:
        clock: Seconds that only grow; the event loop's when absent.
    """

    def __init__(self, cache: Cache, clock: Callable[[], float] | None = None) -> None:
        self._cache = cache
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._waiting: defaultdict[Key, dict[tuple[str, str], Expected]] = defaultdict(dict)

    def wrote(self, key: Key, kind: str, answer: dict[str, Any]) -> None:
        """The API server has answered a write with this object."""
        meta = answer["metadata"]
        self._note(key, kind, meta["namespace"], meta["name"], meta["uid"], meta["resourceVersion"])

    def deleted(self, key: Key, kind: str, namespace: str, name: str, uid: str) -> None:
        """A deletion was accepted."""
        self._note(key, kind, namespace, name, uid, "")

    def unseen(self, key: Key) -> tuple[Expected, ...]:
        """What is still to be seen."""
        waiting = self._waiting.get(key)
        if not waiting:
            return ()
        now = self._clock()
        left = {name: item for name, item in waiting.items() if now - item.at_s < LIMIT_S and not self._seen(item)}
        if left:
            self._waiting[key] = left
        else:
            del self._waiting[key]
        return tuple(left.values())

    def _note(self, key: Key, kind: str, namespace: str, name: str, uid: str, version: str) -> None:
        if kind not in self._cache.stores:  # nobody watches it, and nothing is decided on it
            return
        at = self._clock()
        self._waiting[key][kind, name] = Expected(kind, namespace, name, uid, version, at)

    def _seen(self, item: Expected) -> bool:
        found = self._cache.object(item.kind, item.namespace, item.name)
        if found is None:
            return not item.version or item.uid in self._cache.stores[item.kind].gone
        meta = found.metadata
        if meta.uid != item.uid:
            return True
        if not item.version:
            return meta.deletion_timestamp is not None
        return not newer(item.version, meta.resource_version)
