"""Which checkpoints stay."""

from __future__ import annotations

from collections.abc import Sequence

from opt_api.documents.keys import manifest_key, served_prefix
from opt_store import Store
from opt_trainer.checkpoint.catalog import Found, catalog, loadable
from opt_trainer.checkpoint.job import RetentionPolicy


def doomed(found: Sequence[Found], attempt: int, policy: RetentionPolicy) -> list[Found]:
    """What goes, of checkpoints listed newest first. Pure.

    The last `keep_last` loadable ones stay, and those at multiples of `keep_every_steps`, at pinned steps, and with a
    Pinned, KnownGood or Served mark. Poisoned ones stay as evidence until `keep_last` newer loadable ones exist. What
    killed saves of earlier attempts left goes; what lies there without a manifest from this attempt may still be
    written to.
    """
    good = loadable(found)
    recent = good[: policy.retention.keep_last]
    full = len(recent) == policy.retention.keep_last

    def stays(f: Found) -> bool:
        if not f.complete:
            return f.attempt >= attempt
        if f.marked("Poisoned"):
            return not full or (f.attempt, f.step) > (recent[-1].attempt, recent[-1].step)
        return f in recent or _kept_for_good(f, policy)

    return [f for f in found if not stays(f)]


def _kept_for_good(f: Found, policy: RetentionPolicy) -> bool:
    every = policy.retention.keep_every_steps
    return (
        f.step in policy.pinned
        or (every is not None and f.step % every == 0)
        or f.marked("Pinned")
        or f.marked("KnownGood")
        or any(key.startswith(served_prefix(f.prefix)) for key in f.keys)
    )


def retain(store: Store, run: str, attempt: int, policy: RetentionPolicy) -> list[Found]:
    """Delete what goes; return it. The manifest is deleted first, so that no half-deleted checkpoint exists."""
    gone = doomed(catalog(store, run), attempt, policy)
    for f in gone:
        first = manifest_key(f.prefix)
        for key in sorted(f.keys, key=lambda k: (k != first, k)):
            store.delete(key)
    return gone
