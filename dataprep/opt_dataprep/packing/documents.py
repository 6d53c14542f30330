"""A part's documents as the tokenise stage left them, and how often each is seen in an epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from opt_dataprep.packing.permutation import mix
from opt_dataprep.tokens.tokenise_stage import DOCUMENTS, TOKENS
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import commits_of, read, read_range

HOLD_OUT, WEIGHT = 1, 2
"""Streams of the seed: what decides about holding out must not decide about repetition too."""
TOKEN_BYTES = 2


@dataclass(frozen=True)
class Documents:
    """Columns over one part's documents, in order; see `opt_dataprep.tokens.tokenise_stage.SCHEMA`."""

    tokens: NDArray[np.uint32]
    bytes: NDArray[np.uint32]
    hash: NDArray[np.uint64]
    slice: NDArray[np.uint32]
    position: NDArray[np.uint64]
    length: NDArray[np.uint64]

    @property
    def starts(self) -> NDArray[np.int64]:
        """Token at which each document begins in the part, and the end."""
        return np.concatenate(([0], np.cumsum(self.tokens, dtype=np.int64)))


def load_documents(preparation: Preparation, part: int) -> Documents:
    """Read a part's documents."""
    commit = commits_of(preparation, "tokenise")[part]
    table = pa.ipc.open_file(read(preparation, commit, DOCUMENTS)).read_all()
    return Documents(**{name: table[name].to_numpy() for name in table.column_names})


def load_tokens(preparation: Preparation, part: int, first: int, last: int) -> NDArray[np.uint16]:
    """Read tokens [first, last) of a part."""
    commit = commits_of(preparation, "tokenise")[part]
    data = read_range(preparation, commit, TOKENS, first * TOKEN_BYTES, (last - first) * TOKEN_BYTES)
    return np.frombuffer(data, "<u2")


def draw(hashes: NDArray[np.uint64], seed: int, stream: int) -> NDArray[np.uint64]:
    """A uniform 64-bit number of each document, fixed by its text, the seed and the purpose."""
    key = mix(np.array([seed * 8 + stream], np.uint64))
    return mix(hashes ^ key)


def copies(documents: Documents, weight: float, seed: int) -> NDArray[np.int64]:
    """How often each document is seen in one epoch: the weight's whole part, and once more for a fixed sample."""
    whole = int(weight)
    share = draw(documents.hash, seed, WEIGHT).astype(np.float64) * 2.0**-64
    return whole + (share < weight - whole).astype(np.int64)
