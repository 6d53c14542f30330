"""What a finished run left behind, in a few numbers."""

from __future__ import annotations

from typing import Any

from opt_api.documents.keys import checkpoints_prefix, export_prefix, manifest_key, step_and_attempt
from opt_api.documents.logbook import LogbookEntry
from opt_api.documents.manifests import CheckpointManifest
from opt_runtime.records.logbook import Logbook
from opt_store import Store


def result_of(store: Store, run: str) -> dict[str, Any]:
    """Last checkpoint, validation losses, where the export is, recoveries, and the share of time that was productive.

    Raises:
        opt_store.StoreError: The store cannot be read.
    """
    entries = Logbook(store, run).read()
    recoveries = [entry for entry in entries if entry.rung]
    found: dict[str, Any] = {
        "run": run,
        "recoveries": [f"{e.cause} (rung {e.rung}, {e.steps_lost} step(s) redone)" for e in recoveries],
        "productive": _productive(entries),
    }
    newest = _newest(store, run)
    if newest is None:
        return found
    prefix, manifest = newest
    exported = any(True for _ in store.list(export_prefix(prefix) + "/"))
    return found | {
        "step": manifest.step,
        "loss": manifest.loss,
        "validationLoss": dict(manifest.validation_loss),
        "checkpoint": f"{store.url}/{prefix}",
        "export": f"{store.url}/{export_prefix(prefix)}" if exported else None,
    }


def _newest(store: Store, run: str) -> tuple[str, CheckpointManifest] | None:
    keys = {info.key for info in store.list(checkpoints_prefix(run))}
    prefixes = {key.rpartition("/")[0] for key in keys if key == manifest_key(key.rpartition("/")[0])}
    prefix = max(prefixes, key=lambda p: step_and_attempt(p) or (-1, -1), default=None)
    return (prefix, CheckpointManifest.from_bytes(store.get(manifest_key(prefix)))) if prefix else None


def _productive(entries: list[LogbookEntry]) -> float | None:
    last = next((entry for entry in reversed(entries) if entry.cause == "Completed"), None)
    if last is None or not last.seconds:
        return None
    wanted = sum(last.seconds.values()) - last.seconds.get("idle_spare", 0.0)
    return last.seconds.get("productive", 0.0) / wanted if wanted else None
