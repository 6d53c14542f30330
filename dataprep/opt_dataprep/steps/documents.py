"""The text stage: a Parquet file per part, one row a kept document, its place in its source object beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from opt_api.documents.dataprep import PartCommit
from opt_dataprep.sources.document import SourceDocument
from opt_dataprep.sources.range_file import RangeFile
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import entry

TEXTS = "texts.parquet"
_FIELDS: list[pa.Field[Any]] = [
    pa.field("slice", pa.uint32(), nullable=False),
    pa.field("position", pa.uint64(), nullable=False),
    pa.field("length", pa.uint64(), nullable=False),
    pa.field("bytes", pa.uint32(), nullable=False),
    pa.field("digest", pa.binary(16), nullable=False),
    pa.field("text", pa.string(), nullable=False),
]
SCHEMA = pa.schema(_FIELDS)
GROUP_BYTES = 4 << 20
"""Text of one row group: what a later step holds at a time."""


class TextWriter:
    """Writes kept documents in groups of some 4 MiB."""

    def __init__(self, file: IO[bytes]) -> None:
        self._writer = pq.ParquetWriter(
            file,
            SCHEMA,
            compression="zstd",
            compression_level=1,
            use_dictionary=cast("bool", ["slice"]),  # the stubs know only the switch
            write_statistics=False,
            write_page_checksum=True,
        )
        self._columns: list[list[object]] = [[] for _ in SCHEMA]
        self._held = 0
        self.digests: list[bytes] = []
        self.bytes = 0

    def add(self, document: SourceDocument, text: str) -> None:
        """Write one kept document."""
        data = text.encode()
        digest = xxhash.xxh3_128_digest(data)
        row = (document.slice, document.position, document.length, len(data), digest, text)
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)
        self.digests.append(digest)
        self.bytes += len(data)
        self._held += len(data)
        if self._held >= GROUP_BYTES:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write what is left and the footer; after an error, only let go of the file."""
        if kind is not None:
            with suppress(OSError, pa.ArrowException):
                self._writer.close()
            return
        if self._held:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        arrays = [pa.array(column, field.type) for column, field in zip(self._columns, SCHEMA, strict=True)]
        self._writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))
        self._columns, self._held = [[] for _ in SCHEMA], 0


def read_texts(
    preparation: Preparation, commit: PartCommit, columns: list[str]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (number of the first row, batch) of a part's documents, a bounded batch at a time; pages are checked."""
    found = entry(commit, TEXTS)
    source = RangeFile(preparation.store, f"{preparation.prefix}/{found.key}", found.size)
    file = pq.ParquetFile(cast("IO[bytes]", source), page_checksum_verification=True)
    first = 0
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=columns, use_threads=False)
        (batch,) = table.combine_chunks().to_batches()
        yield first, batch
        first += batch.num_rows


def digest_halves(digests: list[bytes]) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint64]], ...]:
    """Return the high and low 64 bits of 128-bit digests."""
    both = np.frombuffer(b"".join(digests), dtype=">u8").reshape(-1, 2)
    return both[:, 0].astype(np.uint64), both[:, 1].astype(np.uint64)
