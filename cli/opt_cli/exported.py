"""A trained model: a directory, a directory in a store, or the newest export of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from opt_api.documents.keys import checkpoints_prefix, export_prefix, manifest_key, mark_key
from opt_cli.stored import stored_run
from opt_serving.server.running import Find, Weights
from opt_serving.weights_cache import fetch, listing, revision_of
from opt_store import SCHEMES, NotFound, Store, open_store

CONFIG = "config.json"


def finder(source: str, store_url: str | None) -> Find:
    """How the weights of DIR, NAME or s3://... are found, and found to be newer.

    Raises:
        opt_store.StoreError: There is no such run or store.
    """
    folder = Path(source)
    if store_url is None and folder.is_dir() and ((folder / CONFIG).is_file() or not Path("runs", source).is_dir()):
        return _folder_finder(folder)
    if source.startswith(SCHEMES):
        store = open_store(source)
        return _store_finder(store, lambda: "", source)
    return run_finder(stored_run(source, store_url), source)


def run_finder(store: Store, run: str) -> Find:
    """How the newest export of a run in a store is found."""
    return _store_finder(store, lambda: f"{export_prefix(newest_export(store, run))}/", store.url)


def newest_export(store: Store, run: str) -> str:
    """Prefix of the newest Verified checkpoint with a whole export; config.json is written last.

    Raises:
        opt_store.NotFound: There is none.
    """
    keys = {info.key for info in store.list(checkpoints_prefix(run))}
    prefixes = sorted(key.removesuffix(f"/export/{CONFIG}") for key in keys if key.endswith(f"/export/{CONFIG}"))
    good = [
        prefix
        for prefix in prefixes
        if {manifest_key(prefix), mark_key(prefix, "Verified")} <= keys and mark_key(prefix, "Poisoned") not in keys
    ]
    if not good:
        why = f"{len(prefixes)} export(s), none of a Verified checkpoint" if prefixes else "no checkpoint has an export"
        raise NotFound(f"run {run!r} in {store.url}: {why}; let it finish, or set checkpointing.exportEverySteps")
    return good[-1]


def _folder_finder(folder: Path) -> Find:
    def find(revision: str | None) -> Weights | None:
        found = folder / CONFIG
        stamp = f"mtime:{found.stat().st_mtime_ns}" if found.is_file() else "mtime:none"
        return None if stamp == revision else Weights(folder, str(folder), stamp)

    return find


def _store_finder(store: Store, newest: Callable[[], str], root: str) -> Find:
    def find(revision: str | None) -> Weights | None:
        prefix = newest()
        if revision is not None and revision_of(listing(store, prefix), prefix) == revision:
            return None
        folder, found = fetch(store, prefix)
        return Weights(folder, f"{root}/{prefix}".rstrip("/"), found)

    return find
