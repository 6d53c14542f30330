"""Watches the store for checkpoints: which there are, which are good, when the newest was verified."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from opt_api.documents.keys import checkpoints_prefix, manifest_key, mark_key
from opt_api.documents.manifests import CheckpointManifest, CheckpointMark
from opt_runtime.core.divergence import CheckpointView
from opt_store import NotFound, Store, StoreError

WATCH_S = 2.0
log = structlog.get_logger(__name__)


class CheckpointWatch:
    """A thread that lists a run's checkpoints every few seconds.

    Attributes:
        views: Checkpoints found, ascending by step.
        verified: Steps that carry the mark Verified.
    """

    def __init__(self, store: Store, run: str, on_verified: Callable[[int], None]) -> None:
        self.views: tuple[CheckpointView, ...] = ()
        self.verified: frozenset[int] = frozenset()
        self._store, self._run, self._on_verified = store, run, on_verified
        self._manifests: dict[str, CheckpointManifest] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join()

    def leave_behind(self, step: int, reason: str) -> None:
        """Mark every checkpoint after `step` as poisoned, so that the run goes on from that step."""
        try:
            self.look()  # one may have become whole a moment ago
        except (StoreError, ValueError) as fault:
            log.warning("cannot look for checkpoints to leave behind", fault=str(fault))
        for prefix, manifest in list(self._manifests.items()):
            if manifest.step > step:
                self._poison(prefix, manifest, reason)

    def newest_verified(self) -> dict[str, Any] | None:
        """Step, time and digest of the manifest of the newest checkpoint that is marked Verified; None for none."""
        good = [manifest for manifest in list(self._manifests.values()) if manifest.step in self.verified]
        newest = max(good, key=lambda manifest: (manifest.step, manifest.attempt), default=None)
        if newest is None:
            return None
        return {"step": newest.step, "time": newest.time.isoformat(), "digest": newest.digest()}

    def _poison(self, prefix: str, manifest: CheckpointManifest, reason: str) -> None:
        mark = CheckpointMark(
            mark="Poisoned", manifest=manifest.digest(), time=datetime.now(UTC), by="divergence policy", reason=reason
        )
        try:
            self._store.put(mark_key(prefix, "Poisoned"), mark.sealed().to_bytes())
        except StoreError as fault:
            log.warning("a checkpoint could not be marked", prefix=prefix, fault=str(fault))

    def _work(self) -> None:
        while not self._ended.wait(WATCH_S):
            try:
                self.look()
            except (StoreError, ValueError) as fault:
                log.warning("cannot read the checkpoints; trying again", fault=str(fault))

    def look(self) -> None:
        """Read what is new, now."""
        keys = {info.key for info in self._store.list(checkpoints_prefix(self._run))}
        prefixes = sorted({key.rpartition("/")[0] for key in keys if key == manifest_key(key.rpartition("/")[0])})
        for prefix in prefixes:
            if prefix not in self._manifests:
                self._read(prefix)
        known = [(prefix, self._manifests[prefix]) for prefix in prefixes if prefix in self._manifests]
        self.views = tuple(
            CheckpointView(m.step, m.loss_scale, mark_key(prefix, "Poisoned") in keys) for prefix, m in known
        )
        verified = frozenset(m.step for prefix, m in known if mark_key(prefix, "Verified") in keys)
        fresh, self.verified = verified - self.verified, verified
        for step in sorted(fresh):
            self._on_verified(step)

    def _read(self, prefix: str) -> None:
        try:
            self._manifests[prefix] = CheckpointManifest.from_bytes(self._store.get(manifest_key(prefix)))
        except NotFound:
            log.info("a checkpoint was removed while it was being read", prefix=prefix)
