"""A column of texts cut at blanks and line ends, each distinct piece told once.

What is the same work for the same word (hashing it, encoding it) is then done once a batch, and Arrow spreads the
results at the speed of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Value = TypeVar("Value", np.uint16, np.uint64)
Column = tuple[NDArray[Value], NDArray[np.int64]]
"""Values of all texts end to end, and where each text's begin, and the end."""

LINE_END = b"\n"
REMEMBERED = 1 << 17
"""Results kept of one kind, some 25 MB; natural text has few different words."""
_IRREGULAR = (
    r"[\t\r\f\v\x1c-\x1f\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"
    r"|  | \n|\n |\n\n\n|[ \n]\z|\A\z"
)
"""What keeps a text from being cut: blanks of other kinds, or in longer runs, than `whitespace` leaves. GPT-2's rule
splits a run of blanks by its length and by what follows (its `\\s+(?!\\S)`), so pieces of such a text would not be
encoded as the whole is."""
_BLANK, _NEWLINE = 0x20, 0x0A


@dataclass(frozen=True)
class Pieces:
    """Texts cut into words, each with the blank before it, and line ends.

    Attributes:
        distinct: Each different piece once.
        indices: Of every piece, its place in `distinct`.
        bounds: Where each text's pieces begin, and the end.
    """

    distinct: list[bytes]
    indices: Any
    bounds: NDArray[np.int64]


def by_text(
    texts: Any, of_pieces: Callable[[Pieces], Column[Value]], of_text: Callable[[str], NDArray[Value]]
) -> Column[Value]:
    """Return values of a string column: of the regular texts by their pieces, of each other text by itself."""
    irregular = pc.match_substring_regex(texts, _IRREGULAR)
    if not pc.any(irregular).as_py():
        return of_pieces(cut(texts))
    values, bounds = of_pieces(cut(texts.filter(pc.invert(irregular))))
    parts, at = [], 0
    for text, alone in zip(texts, irregular.to_pylist(), strict=True):
        parts.append(of_text(text.as_py()) if alone else values[bounds[at] : bounds[at + 1]])
        at += not alone
    return np.concatenate(parts), np.concatenate(([0], np.cumsum([len(part) for part in parts])))


def cut(texts: Any) -> Pieces:
    """Cut regular texts."""
    if not len(texts):
        return Pieces([], pa.array([], pa.int32()), np.zeros(1, np.int64))
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    content = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
    line_ends = content == _NEWLINE
    begins = line_ends | (content == _BLANK)
    begins[1:] |= line_ends[:-1]
    begins[ends[:-1] - ends[0]] = True
    starts = np.flatnonzero(begins)
    buffers: list[Any] = [np.append(starts, len(content)).astype(np.int32), content]
    pieces = pa.Array.from_buffers(pa.binary(), len(starts), [None, *map(pa.py_buffer, buffers)])
    encoded: Any = pieces.dictionary_encode()
    return Pieces(encoded.dictionary.to_pylist(), encoded.indices, np.searchsorted(starts, ends - ends[0]))


def look_up(
    known: dict[bytes, bytes], pieces: list[bytes], find: Callable[[list[bytes]], Iterable[bytes]]
) -> list[bytes]:
    """Return what is known of each distinct piece; what is not is found for all of them together, and kept."""
    unknown = [piece for piece in pieces if piece not in known]
    if len(known) + len(unknown) > REMEMBERED:
        known.clear()
        unknown = pieces
    known.update(zip(unknown, find(unknown), strict=True))
    return [known[piece] for piece in pieces]
