"""Shards of later steps, brought to this host behind those that the next steps need: then no step needs the store."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Event, Thread

from opt_api.documents.manifests import ShardEntry
from opt_store import StoreError
from opt_trainer.data.shards import ShardCache
from opt_trainer.errors import BadHost, BadSpec

AGAIN_S = 15.0
"""Seconds until a store that was away is asked again."""


class Prefetch:
    """Fetches shards one after the other in a thread of its own, in the order given.

    A fault that waiting does not mend is left to whoever reads the shard: a step may never come to it.

    Args:
        cache: Where they come to lie.
        shards: What is fetched.
    """

    def __init__(self, cache: ShardCache, shards: Iterable[ShardEntry]) -> None:
        self._cache, self._shards, self._closed = cache, tuple(shards), Event()
        self._thread = Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until every shard was tried; say whether it came to that."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Fetch no further shard. One that is on its way may still come."""
        self._closed.set()

    def _run(self) -> None:
        for shard in self._shards:
            while not self._closed.is_set() and self._is_away(shard):
                self._closed.wait(AGAIN_S)

    def _is_away(self, shard: ShardEntry) -> bool:
        try:
            self._cache.path(shard)
        except StoreError as fault:
            return fault.transient
        except (BadHost, BadSpec):
            return False
        return False
