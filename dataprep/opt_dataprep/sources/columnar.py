"""Parquet and Arrow IPC: units that can be read by themselves, and the text column of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from opt_api.documents.dataprep import PlannedObject
from opt_dataprep.errors import BadInput
from opt_dataprep.sources.compression import FREE_BYTES, MAX_EXPANSION
from opt_dataprep.sources.document import Oversized, Rejected, SourceDocument
from opt_dataprep.sources.objects import open_object
from opt_dataprep.sources.uris import object_uri

_ROWS = 1024
_MAX_UNIT_BYTES = 8 << 30
"""A row group or record batch that claims to unpack to more is refused: a worker could not hold it."""


def parquet_groups(planned: PlannedObject) -> list[int]:
    """Bytes of each row group, unpacked, in order."""
    with _faults(planned, "Parquet"):
        metadata = pq.ParquetFile(cast("IO[bytes]", open_object(planned))).metadata
        return [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]


def arrow_batches(planned: PlannedObject) -> list[int]:
    """Bytes of each record batch, taken as equal shares of the file."""
    with _faults(planned, "an Arrow IPC file"):
        count = pa.ipc.open_file(pa.PythonFile(open_object(planned), mode="r")).num_record_batches
        return [planned.size // count] * count


def read_parquet(
    planned: PlannedObject, number: int, start: int, end: int, column: str, limit: int
) -> Iterator[SourceDocument | Rejected]:
    """Yield the documents of row groups [start, end)."""
    with _faults(planned, "Parquet"):
        file = pq.ParquetFile(cast("IO[bytes]", open_object(planned)))
        _check_column(planned, file.schema_arrow, column)
        rows = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        for group in range(start, end):
            _check_unit(planned, group, file.metadata.row_group(group))
    first = sum(rows[:start])
    for group in range(start, end):
        batches = file.iter_batches(batch_size=_ROWS, row_groups=[group], columns=[column])
        for batch in _guarded(planned, f"Parquet (row group {group})", batches):
            yield from _rows(batch.column(0), number, first, limit)
            first += batch.num_rows


def read_arrow(
    planned: PlannedObject, number: int, start: int, end: int, column: str, limit: int
) -> Iterator[SourceDocument | Rejected]:
    """Yield the documents of record batches [start, end)."""
    with _faults(planned, "an Arrow IPC file"):
        reader = pa.ipc.open_file(pa.PythonFile(open_object(planned), mode="r"))
        _check_column(planned, reader.schema, column)
        first = sum(reader.get_batch(i).num_rows for i in range(start))
    batches = (reader.get_batch(i) for i in range(start, end))
    for batch in _guarded(planned, "an Arrow IPC file", batches):
        batch.validate(full=True)
        yield from _rows(batch.column(column), number, first, limit)
        first += batch.num_rows


def _rows(texts: Any, number: int, first: int, limit: int) -> Iterator[SourceDocument | Rejected]:
    for row, scalar in enumerate(texts, first):
        buffer = scalar.as_buffer()
        if buffer is None:
            yield Rejected(number, row, 0, "missing_text")
        elif buffer.size > limit:
            yield Oversized(number, row, buffer.size, bytes(memoryview(buffer)[:4096]))
        else:
            yield SourceDocument(number, row, buffer.size, buffer.to_pybytes())


def _check_column(planned: PlannedObject, schema: pa.Schema, column: str) -> None:
    if column not in schema.names:
        raise BadInput(object_uri(planned), None, f"no column {column!r}; it has {schema.names}: set textField to one")
    kind = schema.field(column).type
    if not any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)):
        raise BadInput(object_uri(planned), None, f"column {column!r} is {kind}; allowed are string and binary")


def _check_unit(planned: PlannedObject, group: int, found: pq.RowGroupMetaData) -> None:
    size = found.total_byte_size
    packed = sum(found.column(i).total_compressed_size for i in range(found.num_columns))
    if size > max(FREE_BYTES, MAX_EXPANSION * packed):
        raise BadInput(
            object_uri(planned),
            None,
            f"row group {group} expands to more than {MAX_EXPANSION} times its size ({packed} to {size} bytes); "
            "refused as a decompression bomb: unpack it yourself if it is meant",
        )
    if size > _MAX_UNIT_BYTES:
        raise BadInput(
            object_uri(planned), None, f"row group {group} unpacks to {size} bytes; at most {_MAX_UNIT_BYTES} allowed"
        )


def _guarded(planned: PlannedObject, kind: str, batches: Iterator[Any]) -> Iterator[Any]:
    while True:
        with _faults(planned, kind):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


@contextmanager
def _faults(planned: PlannedObject, kind: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as fault:
        raise BadInput(
            object_uri(planned),
            None,
            f"not readable as {kind} of {planned.size} bytes (cut short or damaged?): {fault}",
        ) from fault
