"""What is known of a checkpoint beyond its manifest: Verified, Poisoned, KnownGood, Pinned."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from opt_api.documents.keys import mark_key
from opt_api.documents.manifests import CheckpointMark
from opt_store import Store

Mark = Literal["Verified", "Poisoned", "KnownGood", "Pinned"]
_REASON_LIMIT = 1000


def mark(
    store: Store, prefix: str, name: Mark, manifest: str | None, *, by: str, now: datetime, reason: str = ""
) -> None:
    """Write a mark; writing it again replaces it."""
    document = CheckpointMark(mark=name, manifest=manifest, time=now, by=by, reason=reason[:_REASON_LIMIT])
    store.put(mark_key(prefix, name), document.sealed().to_bytes())
