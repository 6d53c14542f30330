"""The same BPE twice: tiktoken's core with a table of ids for speed, Hugging Face `tokenizers` as the reference.

Both take every text as plain text: a document that contains "</s>" does not end there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import tiktoken
import tokenizers
from numpy.typing import NDArray

from opt_dataprep.errors import TokenizerMismatch
from opt_dataprep.pieces import LINE_END, Column, Pieces, by_text, look_up
from opt_dataprep.tokens.vocabulary import SPECIAL, Vocabulary, byte_characters

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
"""GPT-2's split into words, in the form that tiktoken gives for it: equal matches, no backtracking."""


class Encoder(Protocol):
    """From text to ids."""

    def encode(self, text: str) -> NDArray[np.uint16]:
        """Return the ids of the text, without any special token."""


class FastEncoder:
    """tiktoken's core over ranks made from the merges, and a table from its ranks to the vocabulary's ids.

    GPT-2's rule never joins what a single blank or line end parts, so whole columns are encoded piece by piece, each
    distinct piece once (`opt_dataprep.pieces`).
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        byte_of = byte_characters()

        def raw(token: str) -> bytes:
            return bytes(map(byte_of.__getitem__, token))

        tokens = [*(c for c, _ in sorted(byte_of.items(), key=lambda item: item[1]))]
        tokens += dict.fromkeys(a + b for a, b in vocabulary.merges)
        ranks = {raw(token): rank for rank, token in enumerate(tokens)}
        self._core = tiktoken.Encoding("opt", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={})
        self._ids = np.array([vocabulary.ids[token] for token in tokens], np.uint16)
        self._line_end = ranks[LINE_END]
        self._known: dict[bytes, bytes] = {}

    def encode_column(self, texts: Any) -> Column[np.uint16]:
        """Return the ids of a string column (no nulls) end to end, and where each text's begin, and the end."""
        return by_text(texts, self._of_pieces, self.encode)

    def _of_pieces(self, pieces: Pieces) -> Column[np.uint16]:
        every = pa.array(look_up(self._known, pieces.distinct, self._of_distinct), pa.binary()).take(pieces.indices)
        buffers: list[Any] = every.buffers()
        ends = np.frombuffer(buffers[1] or bytes(4), np.int32)[: len(every) + 1].astype(np.int64) // 2
        return np.frombuffer(buffers[2] or b"", "<u2")[: ends[-1]].astype(np.uint16, copy=False), ends[pieces.bounds]

    def _of_distinct(self, pieces: list[bytes]) -> Iterator[bytes]:
        """Ids of each piece, two bytes each: all are encoded in one text, where a line end parts them."""
        text = b"".join(piece + LINE_END for piece in pieces if piece != LINE_END).decode()
        ranks = np.array(self._core.encode_ordinary(text), np.uint32)
        ids, ends = self._ids[ranks].astype("<u2").tobytes(), np.flatnonzero(ranks == self._line_end).tolist()
        found = (ids[2 * (start + 1) : 2 * end] for start, end in pairwise([-1, *ends]))
        line_end = int(self._ids[self._line_end]).to_bytes(2, "little")
        return (line_end if piece == LINE_END else next(found) for piece in pieces)

    def encode(self, text: str) -> NDArray[np.uint16]:
        """See `Encoder.encode`."""
        ranks = self._core.encode_ordinary(text)
        ids: NDArray[np.uint16] = self._ids[np.fromiter(ranks, np.uint32, len(ranks))]
        return ids


class ReferenceEncoder:
    """Hugging Face `tokenizers`, the implementation that OPT's users have."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        plain = {token: i for token, i in vocabulary.ids.items() if token not in SPECIAL}
        model = tokenizers.models.BPE(vocab=plain, merges=vocabulary.merges)
        self._tokenizer = tokenizers.Tokenizer(model)
        self._tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)

    def encode(self, text: str) -> NDArray[np.uint16]:
        """See `Encoder.encode`."""
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.uint16)


def check_agreement(text: str, fast: NDArray[np.uint16], reference: Sequence[int] | NDArray[np.uint16]) -> None:
    """Compare both encodings of one text.

    Raises:
        TokenizerMismatch: They differ; the message says where.
    """
    other = np.asarray(reference, np.uint16)
    if np.array_equal(fast, other):
        return
    shared = min(len(fast), len(other))
    differing = np.flatnonzero(fast[:shared] != other[:shared])
    at = int(differing[0]) if len(differing) else shared
    raise TokenizerMismatch(
        f"the fast encoder and the reference differ from token {at} of a document of {len(text)} characters: "
        f"{fast[at : at + 5].tolist()} and {other[at : at + 5].tolist()}; text begins {text[:80]!r}. "
        "Nothing was written; report it with the document"
    )
