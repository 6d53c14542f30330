"""The shards' schema, and blocks cut from a run of documents.

A block is `sequence_length + 1` tokens; blocks do not overlap; documents run across their borders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

PLACE = pa.struct(
    [
        pa.field("object", pa.uint32(), nullable=False),
        pa.field("position", pa.uint64(), nullable=False),
        pa.field("length", pa.uint64(), nullable=False),
        pa.field("start", pa.uint32(), nullable=False),
        pa.field("skipped", pa.uint32(), nullable=False),
    ]
)
"""One document in a block: its source object (index into the manifest's sources) and its place there, the token of the
block where it starts, and how many of its tokens came before this block."""


def block_schema(width: int) -> pa.Schema:
    """Schema of blocks of `width` tokens."""
    return pa.schema(
        [
            pa.field("tokens", pa.list_(pa.field("item", pa.uint16(), nullable=False), width), nullable=False),
            pa.field("documents", pa.list_(pa.field("item", PLACE, nullable=False)), nullable=False),
        ]
    )


@dataclass(frozen=True)
class Span:
    """Documents end to end, with the tokens of all.

    Attributes:
        tokens: Shape (total,).
        starts: Where each document begins in `tokens`; shape (documents,).
        object, position, length: Place of each document in its source.
    """

    tokens: NDArray[np.uint16]
    starts: NDArray[np.int64]
    object: NDArray[np.uint32]
    position: NDArray[np.uint64]
    length: NDArray[np.uint64]


def cut_blocks(span: Span, begins: NDArray[np.int64], width: int) -> pa.RecordBatch:
    """Return the blocks that begin at `begins` in the span; it must reach to the end of each."""
    tokens = np.lib.stride_tricks.sliding_window_view(span.tokens, width)[begins]
    return batch_of(tokens, places(span, begins, width), width)


def batch_of(tokens: NDArray[np.uint16], documents: Any, width: int) -> pa.RecordBatch:
    """A batch of blocks from their tokens, shape (blocks, width), and documents."""
    schema = block_schema(width)
    values = pa.array(np.ascontiguousarray(tokens).reshape(-1), pa.uint16())
    return pa.record_batch(
        [pa.FixedSizeListArray.from_arrays(values, type=schema.field("tokens").type), documents], schema=schema
    )


def places(span: Span, begins: NDArray[np.int64], width: int) -> Any:
    """Which documents each block holds."""
    first = np.searchsorted(span.starts, begins, side="right") - 1
    last = np.searchsorted(span.starts, begins + width, side="left")
    counts = last - first
    offsets = np.concatenate(([0], np.cumsum(counts)))
    rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - first, counts)
    relative = span.starts[rows] - np.repeat(begins, counts)
    fields = [
        span.object[rows].astype(np.uint32),
        span.position[rows].astype(np.uint64),
        span.length[rows].astype(np.uint64),
        np.maximum(relative, 0).astype(np.uint32),
        np.maximum(-relative, 0).astype(np.uint32),
    ]
    structs = pa.StructArray.from_arrays([pa.array(f) for f in fields], fields=list(PLACE))
    kind = pa.list_(pa.field("item", PLACE, nullable=False))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs, type=kind)


def rearrange(documents: Any, order: NDArray[np.int64]) -> Any:
    """The documents of blocks taken in another order."""
    return documents.take(pa.array(order, pa.int64()))
