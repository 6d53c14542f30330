"""Slices with the digests of their chunks, and the check of what the store holds."""

from __future__ import annotations

from collections.abc import Iterator

from opt_api.documents.manifests import TensorEntry, TensorSlice
from opt_store import Corrupt, Store, digest_of
from opt_trainer.checkpoint.job import Piece


def chunks(start: int, end: int, chunk: int) -> Iterator[tuple[int, int]]:
    """The chunks of bytes [start, end), the last one shorter."""
    return ((at, min(at + chunk, end)) for at in range(start, end, chunk))


def entry_of(piece: Piece, image: memoryview, chunk: int) -> TensorEntry:
    """The piece as a tensor with one slice, in object 0."""
    return TensorEntry(
        name=piece.name,
        dtype=piece.dtype,
        shape=piece.global_shape,
        slices=(
            TensorSlice(
                offset=piece.offset,
                shape=piece.shape,
                object=0,
                start=piece.start,
                end=piece.end,
                digests=tuple(digest_of(image[a:b]) for a, b in chunks(piece.start, piece.end, chunk)),
            ),
        ),
    )


def read_back(store: Store, key: str, header: memoryview, tensors: tuple[TensorEntry, ...], chunk: int) -> None:
    """Read the object and compare the header with memory, and every chunk with its digest.

    Raises:
        Corrupt: The store does not hold what was written.
    """
    if store.read_range(key, 0, len(header)) != header:
        raise Corrupt(f"object {key!r}: its header was read back differently; it is written again")
    for tensor in tensors:
        for part in tensor.slices:
            for (a, b), digest in zip(chunks(part.start, part.end, chunk), part.digests, strict=True):
                store.read_range(key, a, b - a, expect=digest)
