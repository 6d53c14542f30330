"""How the ranks' parts become one manifest: through the store alone, so that no rank's trainer is needed for it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from opt_api.documents.keys import manifest_key
from opt_api.documents.manifests import CheckpointManifest
from opt_store import NotFound, ObjectInfo, Store, commit, digest_of
from opt_trainer.checkpoint import fence
from opt_trainer.checkpoint.errors import SaveFailed
from opt_trainer.checkpoint.job import CheckpointPart, WriterConfig
from opt_trainer.checkpoint.writer.assembling import assemble

_POLL_S = 0.05
_POLL_LIMIT_S = 2.0
_ORPHAN_S = 60.0
"""How long a writer whose trainer is gone still waits for its peers."""


class Gathering:
    """One rank's side of it."""

    def __init__(self, store: Store, config: WriterConfig, parent: int) -> None:
        self._store, self._config, self._parent = store, config, parent

    def leave(self, prefix: str, part: CheckpointPart) -> None:
        """Say that this rank's object is there and reads back."""
        self._store.put(f"{prefix}/parts/{part.rank:06d}.json", part.model_dump_json(by_alias=True).encode())

    def merge(self, prefix: str, draft: CheckpointManifest) -> CheckpointManifest:
        """Wait for all parts and join them.

        Raises:
            SaveFailed: A part does not come, or the parts do not make up whole tensors.
        """
        wanted = self._config.world_size
        parts: dict[str, CheckpointPart] = {}

        def gather() -> bool:
            for info in self._store.list(f"{prefix}/parts/"):
                if info.key not in parts:
                    parts[info.key] = CheckpointPart.model_validate_json(self._store.get(info.key))
            return len(parts) >= wanted

        self._poll(gather, lambda: f"parts of {len(parts)} of {wanted} ranks")
        return assemble(draft, [parts[key] for key in sorted(parts)])

    def commit(self, prefix: str, manifest: CheckpointManifest) -> None:
        """Write the manifest, if every object is there; then the parts have done their work."""
        entries = [entry for o in manifest.objects for entry in (o, o.index) if entry is not None]
        objects = [ObjectInfo(f"{prefix}/{entry.key}", entry.size, "", entry.digest) for entry in entries]
        commit(self._store, manifest_key(prefix), manifest.to_bytes(), objects)
        for info in list(self._store.list(f"{prefix}/parts/")):
            self._store.delete(info.key)

    def await_manifest(self, prefix: str) -> str:
        """Wait until rank 0 has published; return the manifest's digest."""
        found: list[bytes] = []

        def there() -> bool:
            try:
                found.append(self._store.get(manifest_key(prefix)))
            except NotFound:
                return False
            return True

        self._poll(there, lambda: "no manifest")
        return digest_of(found[0])

    def _poll(self, met: Callable[[], bool], state: Callable[[], str]) -> None:
        began, wait = time.monotonic(), _POLL_S
        while not met():
            waited, orphan = time.monotonic() - began, os.getppid() != self._parent
            limit = min(self._config.peers_deadline_s, _ORPHAN_S) if orphan else self._config.peers_deadline_s
            if waited > limit:
                raise SaveFailed(f"after {waited:.0f} s there are {state()}; see the other ranks' writers")
            time.sleep(wait)
            wait = min(wait * 1.5, _POLL_LIMIT_S)
            if waited > 5 * _POLL_LIMIT_S:
                fence.hold(self._store, self._config.run, self._config.attempt)
