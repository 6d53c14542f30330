"""Many objects that appear together: they are written under a name of their own, and a manifest is written last.

A set of objects exists only if its manifest does. Whatever is killed before that leaves objects that no manifest names;
`sweep` removes them. Several writers share one set: each stages its own objects, one commits them all.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from opt_store.digest import digest_of
from opt_store.errors import Corrupt, NotFound, PreconditionFailed
from opt_store.interface import ObjectInfo, Source, Store
from opt_store.source import digest_of_source, source_bytes

_CHECKS_AT_ONCE = 8


def stage(store: Store, prefix: str, objects: Mapping[str, Source]) -> list[ObjectInfo]:
    """Upload objects as ``<prefix>/<name>``; make the prefix unique to the attempt (its number is in it).

    Staging the same again after a kill uploads only what is not yet there with the same size and digest.

    Raises:
        StoreError: See `Store.upload`.
    """
    return [_stage_one(store, f"{prefix}/{name}", source) for name, source in objects.items()]


def commit(store: Store, manifest_key: str, manifest: bytes, objects: Sequence[ObjectInfo]) -> ObjectInfo:
    """Write the manifest, if every object it names is there with its size and digest, and no other manifest is.

    Committing the same manifest twice is no error, so a writer may be killed and run again at any point.

    Raises:
        NotFound, Corrupt: An object is missing or is another; no manifest was written.
        PreconditionFailed: Another manifest is there.
    """
    with ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool:
        for _ in pool.map(lambda info: _check(store, manifest_key, info), objects):
            pass
    try:
        return store.put(manifest_key, manifest, if_absent=True)
    except PreconditionFailed:
        found = store.stat(manifest_key)
        if found.digest == digest_of(manifest):
            return found
        raise


def sweep(store: Store, prefix: str, keep: Iterable[str]) -> list[str]:
    """Delete the objects under `prefix` that no manifest names; return their keys.

    Args:
        store: Where.
        prefix: Only this part of the store; no writer may be staging there.
        keep: Keys of the manifests and of all that they name.
    """
    kept = set(keep)
    doomed = [info.key for info in store.list(prefix) if info.key not in kept]
    for key in doomed:
        store.delete(key)
    return doomed


def _stage_one(store: Store, key: str, source: Source) -> ObjectInfo:
    with suppress(NotFound):
        found = store.stat(key)
        if found.size == source_bytes(source) and found.digest == digest_of_source(source):
            return found
    return store.upload(key, source)


def _check(store: Store, manifest_key: str, wanted: ObjectInfo) -> None:
    where = f"object {wanted.key!r} of manifest {manifest_key!r}"
    try:
        found = store.stat(wanted.key)
    except NotFound as missing:
        raise NotFound(f"{where}: it is not in {store.url}; the manifest was not written, upload it again") from missing
    if (found.size, found.digest) != (wanted.size, wanted.digest):
        raise Corrupt(
            f"{where}: found {found.size} bytes with {found.digest}, expected {wanted.size} bytes with "
            f"{wanted.digest}; the manifest was not written, upload the object again"
        )
