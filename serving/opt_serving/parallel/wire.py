"""A pass as bytes, from the first rank to the others through a pipe: four lengths, then the arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from opt_serving.compute.passes import Pass

_LENGTHS = 4  # tokens, rows, sequences, pages of each


def encoded(work: Pass) -> bytes:
    """The pass."""
    lengths = np.array([len(work.tokens_N), len(work.rows_R), *work.tables_SP.shape], np.int64)
    wide = (lengths, work.tokens_N, work.positions_N, work.slots_N, work.rows_R)
    return b"".join([*(np.ascontiguousarray(x, np.int64).tobytes() for x in wide), work.tables_SP.tobytes()])


def decoded(read: Callable[[int], bytes]) -> Pass | None:
    """The next pass from a function that gives so many bytes, or fewer at the end; None at the end."""
    head = read(8 * _LENGTHS)
    if len(head) < 8 * _LENGTHS:
        return None
    tokens, rows, sequences, pages = (int(x) for x in np.frombuffer(head, np.int64))
    body = read(8 * (3 * tokens + rows) + 4 * sequences * pages)
    wide = np.frombuffer(body, np.int64, 3 * tokens + rows)
    tables_SP: NDArray[np.int32] = np.frombuffer(body, np.int32, sequences * pages, wide.nbytes).copy()
    parts = [part.copy() for part in np.split(wide, [tokens, 2 * tokens, 3 * tokens])]
    return Pass(parts[0], parts[1], parts[2], tables_SP.reshape(sequences, pages), parts[3])
