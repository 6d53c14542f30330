"""Samples of dropped documents, so that a person can judge the rules: the first few of each reason, cut short."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

EXCLUDED = "excluded.arrow"
PER_REASON = 20
"""Samples of one reason kept from one part."""
SAMPLE_CHARACTERS = 2000
_FIELDS: list[pa.Field[Any]] = [
    pa.field("reason", pa.string(), nullable=False),
    pa.field("slice", pa.uint32(), nullable=False),
    pa.field("position", pa.uint64(), nullable=False),
    pa.field("length", pa.uint64(), nullable=False),
    pa.field("text", pa.string(), nullable=False),
]
SCHEMA = pa.schema(_FIELDS)


class Exclusions:
    """Collects samples of one part."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._rows: list[tuple[str, int, int, int, str]] = []

    def add(self, number: int, position: int, length: int, reason: str, text: str) -> None:
        """Take one dropped document, unless there are enough of its reason."""
        if self._taken[reason] < PER_REASON:
            self._taken[reason] += 1
            self._rows.append((reason, number, position, length, text[:SAMPLE_CHARACTERS]))

    def to_arrow(self) -> bytes:
        """The samples as an Arrow IPC file, by reason."""
        return to_ipc(table_of(sorted(self._rows)))


def table_of(rows: list[tuple[str, int, int, int, str]]) -> pa.Table:
    """A table of samples."""
    columns: list[Any] = list(zip(*rows, strict=True)) or [[] for _ in SCHEMA]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def to_ipc(table: pa.Table) -> bytes:
    """An Arrow IPC file of one record batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
