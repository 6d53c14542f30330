"""Slices with the digests of their chunks, and the check of what the store holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from opt_api.documents.manifests import HeldBox, TensorEntry, TensorSlice
from opt_store import Corrupt, Store, digest_of
from opt_trainer.checkpoint.errors import SaveFailed
from opt_trainer.checkpoint.job import BoxGroup, DType, Piece

_READ_BYTES = 16 << 20
_EXPONENTS: dict[DType, tuple[type[np.unsignedinteger[Any]], int]] = {
    "float32": (np.uint32, 0x7F800000),
    "float16": (np.uint16, 0x7C00),
    "bfloat16": (np.uint16, 0x7F80),
}


def chunks(start: int, end: int, chunk: int) -> Iterator[tuple[int, int]]:
    """The chunks of bytes [start, end), the last one shorter."""
    return ((at, min(at + chunk, end)) for at in range(start, end, chunk))


def entry_of(piece: Piece, image: memoryview, chunk: int) -> TensorEntry:
    """The piece as a tensor with one slice, as an index lists it."""
    return TensorEntry(
        name=piece.name,
        dtype=piece.dtype,
        shape=piece.global_shape,
        slices=(
            TensorSlice(
                offset=piece.offset,
                shape=piece.shape,
                start=piece.start,
                end=piece.end,
                digests=tuple(digest_of(image[a:b]) for a, b in chunks(piece.start, piece.end, chunk)),
            ),
        ),
    )


def check_finite(piece: Piece, image: memoryview, chunk: int) -> None:
    """Refuse a tensor with values that are not finite.

    A number whose exponent bits are all ones is infinite or no number (IEEE 754; bfloat16 has float32's exponent).

    Raises:
        SaveFailed: It has some.
    """
    if piece.dtype not in _EXPONENTS:
        return
    kind, mask = _EXPONENTS[piece.dtype]
    for a, b in chunks(piece.start, piece.end, chunk):
        bits = np.frombuffer(image[a:b], dtype=kind)
        if (bits & mask == mask).any():
            raise SaveFailed(
                f"tensor {piece.name!r}: it has values that are not finite, so the run has diverged; nothing is "
                "published, the checkpoint before it stays the newest"
            )


def groups_of(pieces: Sequence[Piece]) -> tuple[BoxGroup, ...]:
    """The pieces by number format and box."""
    names: dict[tuple[DType, HeldBox], list[str]] = {}
    for p in pieces:
        box = HeldBox(whole=p.global_shape, offset=p.offset, shape=p.shape)
        names.setdefault((p.dtype, box), []).append(p.name)
    return tuple(BoxGroup(dtype=dtype, box=box, names=tuple(held)) for (dtype, box), held in names.items())


def read_back(store: Store, key: str, image: memoryview) -> None:
    """Read the object and compare it with memory, byte for byte: cheaper than a digest, and as good.

    Raises:
        Corrupt: The store does not hold what was written.
    """
    buffer = bytearray(min(_READ_BYTES, len(image)))
    for at, end in chunks(0, len(image), len(buffer)):
        if end - at < len(buffer):
            buffer = bytearray(end - at)
        store.read_into(key, at, buffer)
        if buffer != image[at:end]:
            raise Corrupt(f"object {key!r}: bytes {at} to {end} were read back differently; it is written again")
