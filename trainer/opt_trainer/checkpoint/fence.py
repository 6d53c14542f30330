"""Who may publish: the newest attempt of a run, as recorded in the store."""

from __future__ import annotations

from opt_api.documents.keys import fence_key
from opt_api.documents.manifests import AttemptFence
from opt_store import NotFound, PreconditionFailed, Store
from opt_trainer.checkpoint.errors import Fenced

_TRIES = 20


def hold(store: Store, run: str, attempt: int) -> None:
    """Record `attempt` as the run's newest, or find that it still is.

    Called when an attempt begins and again right before a manifest is written: whoever was given up for dead and is not
    finds a higher number and may not publish. Between this check and the write a newer attempt may begin; its
    checkpoints lie under keys of their own and, being of a higher attempt, are preferred.

    Raises:
        Fenced: A newer attempt has begun.
        opt_store.StoreError: The store does not answer.
    """
    key, mine = fence_key(run), AttemptFence(attempt=attempt).to_bytes()
    for _ in range(_TRIES):
        try:
            etag = store.stat(key).etag
            newest = AttemptFence.from_bytes(store.get(key)).attempt
        except NotFound:
            etag, newest = None, -1
        if newest > attempt:
            raise Fenced(f"run {run!r}: this is attempt {attempt}, attempt {newest} has begun; end this one")
        if newest == attempt:
            return
        try:
            if etag is None:
                store.put(key, mine, if_absent=True)
            else:
                store.put(key, mine, if_match=etag)
        except PreconditionFailed:
            continue
    raise Fenced(f"run {run!r}: the fence {key!r} changed {_TRIES} times while attempt {attempt} asked for it")
