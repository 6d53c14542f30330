"""Model directories from a store, kept on this machine by what they hold: fetched once, checked, then mapped by all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from opt_store import ObjectInfo, Store

KEPT = 2
"""Directories that stay when a newer one comes."""
_log = structlog.get_logger("opt_serving.weights")


def default_folder() -> Path:
    """`~/.cache/opt-operator/models`, or below XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "opt-operator" / "models"


def listing(store: Store, prefix: str) -> list[ObjectInfo]:
    """The objects of a model directory with their digests.

    Raises:
        FileNotFoundError: There is no config.json; it is written last, so the directory is not whole.
    """
    found = [store.stat(info.key) for info in store.list(prefix)]
    if f"{prefix}config.json" not in {info.key for info in found}:
        raise FileNotFoundError(
            f"{store.url}/{prefix}: no config.json; this is no exported model, or not yet a whole one"
        )
    return found


def revision_of(objects: Sequence[ObjectInfo], prefix: str) -> str:
    """A digest over every object's name, size and content; over its etag where no digest is recorded."""
    running = hashlib.sha256()
    for info in sorted(objects, key=lambda info: info.key):
        running.update(f"{info.key.removeprefix(prefix)} {info.size} {info.digest or info.etag}\n".encode())
    return f"sha256:{running.hexdigest()}"


def fetch(store: Store, prefix: str, folder: Path | None = None) -> tuple[Path, str]:
    """The directory at `prefix` on this machine, and its revision; processes that want the same one wait for one fetch.

    Every object is checked against its recorded digest while it is written; a directory has its name only when all of
    it is there.

    Raises:
        FileNotFoundError: See `listing`.
        opt_store.StoreError: The store cannot be read, or an object does not have its digest.
    """
    folder = folder or default_folder()
    objects = listing(store, prefix)
    revision = revision_of(objects, prefix)
    kept = folder / revision.removeprefix("sha256:")
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f".{kept.name}.lock"):
        if not kept.is_dir():
            _download(store, prefix, objects, kept)
            _log.info("weights fetched", source=f"{store.url}/{prefix}", bytes=sum(info.size for info in objects))
        os.utime(kept)
    _forget_old(folder, kept)
    return kept, revision


def _download(store: Store, prefix: str, objects: Sequence[ObjectInfo], kept: Path) -> None:
    half = kept.with_name(f".{kept.name}.part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    try:
        for info in objects:
            path = half / info.key.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            store.download(info.key, path, expect=info.digest)
        half.rename(kept)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _forget_old(folder: Path, newest: Path) -> None:
    """Remove all but the newest few; who has mapped one of them keeps the mapping."""
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".") and path != newest]
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
