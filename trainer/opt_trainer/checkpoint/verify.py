"""A full check of one checkpoint: every byte of every object, without torch and without loading it."""

from __future__ import annotations

from opt_api.documents.keys import manifest_key
from opt_api.documents.manifests import CheckpointManifest
from opt_store import Corrupt, NotFound, Store, digest_of
from opt_trainer.checkpoint.errors import BadCheckpoint
from opt_trainer.checkpoint.sealing import open_mark, open_sealed


def problems_of(store: Store, prefix: str) -> list[str]:
    """Everything that is wrong with the checkpoint at `prefix`; empty if it is whole.

    Raises:
        opt_store.Unavailable: The store does not answer.
    """
    key = manifest_key(prefix)
    try:
        data = store.get(key)
        manifest = open_sealed(data, repr(key))
    except (BadCheckpoint, Corrupt, NotFound) as problem:
        return [str(problem)]
    found = [_object(store, prefix, manifest, index) for index in range(len(manifest.objects))]
    found += [_mark(store, info.key, digest_of(data)) for info in store.list(f"{prefix}/marks/")]
    return [text for text in found if text]


def _object(store: Store, prefix: str, manifest: CheckpointManifest, index: int) -> str:
    entry = manifest.objects[index]
    key = f"{prefix}/{entry.key}"
    try:
        size = store.stat(key).size
        if size != entry.size:
            return f"object {key!r}: it has {size} bytes, the manifest says {entry.size}"
        store.read_range(key, 0, entry.header_size, expect=entry.header_digest)
        for tensor in manifest.tensors:
            for part in (s for s in tensor.slices if s.object == index):
                for number, digest in enumerate(part.digests):
                    at = part.start + number * manifest.chunk_bytes
                    store.read_range(key, at, min(manifest.chunk_bytes, part.end - at), expect=digest)
    except (Corrupt, NotFound) as problem:
        return str(problem)
    return ""


def _mark(store: Store, key: str, manifest: str) -> str:
    try:
        mark = open_mark(store.get(key), repr(key))
    except (Corrupt, BadCheckpoint) as problem:
        return str(problem)
    if mark.manifest not in {None, manifest}:
        return f"mark {key!r}: it is about the manifest {mark.manifest}, this one has {manifest}"
    return ""
