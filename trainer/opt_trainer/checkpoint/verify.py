"""A full check of one checkpoint: every byte of every object, without torch and without loading it."""

from __future__ import annotations

from opt_api.documents.keys import manifest_key
from opt_store import Corrupt, NotFound, Store, digest_of
from opt_trainer.checkpoint.contents import Contents
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
        contents = Contents(store, prefix, open_sealed(data, repr(key)))
    except (BadCheckpoint, Corrupt, NotFound) as problem:
        return [str(problem)]
    found = [_object(contents, number) for number in range(len(contents.manifest.objects))]
    found += [_mark(store, info.key, digest_of(data)) for info in store.list(f"{prefix}/marks/")]
    return [text for text in found if text]


def _object(contents: Contents, number: int) -> str:
    key, chunk = contents.key(number), contents.manifest.chunk_bytes
    try:
        contents.check(number)
        for entry in contents.index(number).tensors:
            for part in entry.slices or ():
                for place, digest in enumerate(part.digests):
                    at = part.start + place * chunk
                    contents.store.read_range(key, at, min(chunk, part.end - at), expect=digest)
    except (BadCheckpoint, Corrupt, NotFound) as problem:
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
