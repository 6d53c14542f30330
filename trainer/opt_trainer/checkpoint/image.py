"""The bytes of one rank's object: a safetensors file, laid out before any tensor is copied.

The format is eight bytes of header length (little endian), a JSON header, then the tensors without gaps
(safetensors format specification). Larger elements come first and the header is padded to eight bytes, so every tensor
is aligned to its own element.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from opt_trainer.checkpoint.job import DType, Piece
from opt_trainer.state import LocalTensor

NAMES: dict[torch.dtype, DType] = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.uint8: "uint8",
}
DTYPES: dict[str, torch.dtype] = {name: dtype for dtype, name in NAMES.items()}
_FORMAT: dict[DType, str] = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
}


@dataclass(frozen=True, slots=True)
class Image:
    """Layout of one rank's object. Equal tensors give equal layouts, so the memory is reused from save to save.

    Attributes:
        header: Length and JSON header, the first bytes of the object.
        pieces: Every tensor, in the order of the bytes.
        size: Of the object, in bytes.
    """

    header: bytes
    pieces: tuple[Piece, ...]
    size: int


def owned(tensors: Sequence[LocalTensor]) -> list[LocalTensor]:
    """What this rank writes, in the order of the image.

    Raises:
        ValueError: A name comes twice, or a number format cannot be stored.
    """
    mine = [t for t in tensors if t.owner and t.tensor.numel()]
    names = [t.name for t in mine]
    if repeated := sorted({name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()):
        raise ValueError(f"tensors to save: {repeated[0]!r} comes more than once on this rank; names must be unique")
    for t in mine:
        if t.tensor.dtype not in NAMES:
            raise ValueError(f"tensor {t.name!r}: found {t.tensor.dtype}, allowed are {', '.join(DTYPES)}")
    return sorted(mine, key=lambda t: (-t.tensor.element_size(), t.name))


def lay_out(mine: Sequence[LocalTensor]) -> Image:
    """Lay out tensors in the given order (see `owned`)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at, spans = 0, []
    for t in mine:
        end = at + t.tensor.numel() * t.tensor.element_size()
        spans.append((at, end))
        header[t.name] = {
            "dtype": _FORMAT[NAMES[t.tensor.dtype]],
            "shape": list(t.tensor.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    first = 8 + len(text)
    pieces = tuple(_piece(t, first + start, first + end) for t, (start, end) in zip(mine, spans, strict=True))
    return Image(len(text).to_bytes(8, "little") + text, pieces, first + at)


def _piece(t: LocalTensor, start: int, end: int) -> Piece:
    return Piece(
        name=t.name,
        dtype=NAMES[t.tensor.dtype],
        global_shape=t.global_shape,
        offset=t.offset,
        shape=tuple(t.tensor.shape),
        start=start,
        end=end,
    )
