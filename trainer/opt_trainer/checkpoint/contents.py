"""A checkpoint opened for reading: its manifest, and of its objects' indexes those that are needed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import ValidationError

from opt_api.documents.keys import manifest_key
from opt_api.documents.manifests import CheckpointIndex, CheckpointManifest, CheckpointObject, TensorEntry, TensorSlice
from opt_store import Corrupt, NotFound, Store
from opt_trainer.checkpoint.boxes import Box, intersect
from opt_trainer.checkpoint.errors import BadCheckpoint
from opt_trainer.checkpoint.sealing import open_sealed

Wanted = tuple[tuple[int, ...], Box]
"""Shape of a whole tensor, and the box of it that is asked for."""


class Contents:
    """Reads a checkpoint's documents, each once, and checks them. Needs no torch.

    Attributes:
        store, prefix: Where it lies.
        manifest: Opened.
    """

    def __init__(self, store: Store, prefix: str, manifest: CheckpointManifest, *, parallel: int = 4) -> None:
        self.store, self.prefix, self.manifest = store, prefix, manifest
        self._parallel = parallel
        self._indexes: dict[int, CheckpointIndex] = {}

    def key(self, number: int) -> str:
        """Key of an object, by its place in the manifest."""
        return f"{self.prefix}/{self.manifest.objects[number].key}"

    def entries(self, wanted: Iterable[Wanted] | None = None) -> dict[str, TensorEntry]:
        """Tensors by name, with the slices of those objects that hold a part of what is wanted; None wants all.

        Raises:
            BadCheckpoint: An index is missing or not what the manifest says.
            opt_store.StoreError: The store does not answer.
        """
        asked = None if wanted is None else set(wanted)
        needed = [n for n, o in enumerate(self.manifest.objects) if o.index and _holds(o, asked)]
        slices: dict[str, list[TensorSlice]] = defaultdict(list)
        with ThreadPoolExecutor(self._parallel, thread_name_prefix="checkpoint-index") as pool:
            for number, index in zip(needed, pool.map(self.index, needed), strict=True):
                for entry in index.tensors:
                    slices[entry.name] += (s.model_copy(update={"object": number}) for s in entry.slices or ())
        return {e.name: e.model_copy(update={"slices": _joined(e, slices)}) for e in self.manifest.tensors}

    def index(self, number: int) -> CheckpointIndex:
        """What an object holds; of one without an index, what the manifest itself says of it.

        Raises:
            BadCheckpoint: It is missing or not what the manifest says.
            opt_store.StoreError: The store does not answer.
        """
        if number not in self._indexes:
            entry = self.manifest.objects[number].index
            self._indexes[number] = self._listed(number) if entry is None else self._read(entry.key, entry.digest)
        return self._indexes[number]

    def check(self, number: int) -> None:
        """Check an object's size and header.

        Raises:
            BadCheckpoint: They are not what the manifest says.
            opt_store.StoreError: The store does not answer.
        """
        entry, key = self.manifest.objects[number], self.key(number)
        try:
            found = self.store.stat(key).size
            if found != entry.size:
                raise BadCheckpoint(f"object {key!r}: it has {found} bytes, the manifest says {entry.size}")
            self.store.read_range(key, 0, entry.header_size, expect=entry.header_digest)
        except (NotFound, Corrupt) as problem:
            raise BadCheckpoint(str(problem)) from problem

    def _read(self, name: str, digest: str) -> CheckpointIndex:
        key = f"{self.prefix}/{name}"
        try:
            return CheckpointIndex.from_bytes(self.store.get(key, digest))
        except (NotFound, Corrupt) as problem:
            raise BadCheckpoint(str(problem)) from problem
        except ValidationError as problem:
            raise BadCheckpoint(f"index {key!r}: it is none, or of an unknown version: {problem}") from problem

    def _listed(self, number: int) -> CheckpointIndex:
        def own(entry: TensorEntry) -> tuple[TensorSlice, ...]:
            return tuple(s for s in entry.slices or () if s.object == number)

        return CheckpointIndex(tensors=tuple(e.model_copy(update={"slices": own(e)}) for e in self.manifest.tensors))


def open_contents(store: Store, prefix: str) -> Contents:
    """Open the checkpoint at `prefix`.

    Raises:
        BadCheckpoint: Its manifest is not what it was.
        opt_store.StoreError: There is none, or the store does not answer.
    """
    key = manifest_key(prefix)
    return Contents(store, prefix, open_sealed(store.get(key), repr(key)))


def _holds(entry: CheckpointObject, asked: set[Wanted] | None) -> bool:
    if asked is None or entry.boxes is None:
        return True
    return any(
        held.whole == whole and intersect(Box(held.offset, held.shape), box) is not None
        for held in entry.boxes
        for whole, box in asked
    )


def _joined(entry: TensorEntry, found: dict[str, list[TensorSlice]]) -> tuple[TensorSlice, ...]:
    """The slices in a manifest of version 1, or those from indexes."""
    extra: Sequence[TensorSlice] = found.get(entry.name, ())
    return (*(entry.slices or ()), *extra)
