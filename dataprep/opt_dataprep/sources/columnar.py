"""Parquet and Arrow IPC: units that can be read by themselves, and the text column of each."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from opt_api.documents.dataprep import PlannedObject
from opt_dataprep.errors import BadInput
from opt_dataprep.sources.arrow_layout import batch_layouts, batch_rows
from opt_dataprep.sources.compression import FREE_BYTES, MAX_EXPANSION
from opt_dataprep.sources.document import Oversized, Rejected, SourceDocument
from opt_dataprep.sources.objects import open_object
from opt_dataprep.sources.uris import object_uri

_ROWS = 1024
STREAM_BEGINS = b"\xff\xff\xff\xff"
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
        found = pq.ParquetFile(cast("IO[bytes]", open_object(planned)))
        _check_column(planned, found.schema_arrow, column)
        metadata = found.metadata
        rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        packed = {group: _check_group(planned, group, metadata.row_group(group)) for group in range(start, end)}
        # A dictionary stays one: each of its values may stand for any number of rows.
        file = pq.ParquetFile(cast("IO[bytes]", open_object(planned)), metadata=metadata, read_dictionary=[column])
    first = sum(rows[:start])
    for group in range(start, end):
        batches = file.iter_batches(batch_size=_ROWS, row_groups=[group], columns=[column])
        parts = (batch.column(0) for batch in _guarded(planned, f"Parquet (row group {group})", batches))
        yield from _bounded(planned, f"row group {group}", packed[group], _rows(parts, number, first, limit))
        first += rows[group]


def read_arrow(
    planned: PlannedObject, number: int, start: int, end: int, column: str, limit: int
) -> Iterator[SourceDocument | Rejected]:
    """Yield the documents of record batches [start, end)."""
    with _faults(planned, "an Arrow IPC file"):
        reader = pa.ipc.open_file(pa.PythonFile(open_object(planned), mode="r"))
        _check_column(planned, reader.schema, column)
        tables = cast("IO[bytes]", open_object(planned))
        for unit, layout in batch_layouts(tables, start, end):
            _check_unit(planned, unit, layout.packed, layout.unpacked)
        first = batch_rows(tables, start)
    batches = _guarded(planned, "an Arrow IPC file", (_whole(reader, i) for i in range(start, end)))
    yield from _rows((batch.column(column) for batch in batches), number, first, limit)


def _whole(reader: pa.ipc.RecordBatchFileReader, batch: int) -> pa.RecordBatch:
    found = reader.get_batch(batch)
    found.validate(full=True)
    return found


def _rows(columns: Iterable[Any], number: int, first: int, limit: int) -> Iterator[SourceDocument | Rejected]:
    row = first
    for column in columns:
        for scalar in column:
            value: Any = scalar.value if isinstance(scalar, pa.DictionaryScalar) else scalar
            buffer = value.as_buffer() if value.is_valid else None
            if buffer is None:
                yield Rejected(number, row, 0, "missing_text")
            elif buffer.size > limit:
                yield Oversized(number, row, buffer.size, bytes(memoryview(buffer)[:4096]))
            else:
                yield SourceDocument(number, row, buffer.size, buffer.to_pybytes())
            row += 1


def _bounded(
    planned: PlannedObject, unit: str, packed: int, documents: Iterator[SourceDocument | Rejected]
) -> Iterator[SourceDocument | Rejected]:
    """Refuse what a dictionary blows up: its metadata counts a value once, however many rows repeat it."""
    total = 0
    for document in documents:
        total += document.length
        _check_unit(planned, unit, packed, total)
        yield document


def _check_column(planned: PlannedObject, schema: pa.Schema, column: str) -> None:
    if column not in schema.names:
        raise BadInput(object_uri(planned), None, f"no column {column!r}; it has {schema.names}: set textField to one")
    kind = schema.field(column).type
    if not any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)):
        raise BadInput(object_uri(planned), None, f"column {column!r} is {kind}; allowed are string and binary")


def _check_group(planned: PlannedObject, group: int, found: pq.RowGroupMetaData) -> int:
    """Return the packed bytes of a row group that does not say of itself that it is a bomb."""
    packed = sum(found.column(i).total_compressed_size for i in range(found.num_columns))
    _check_unit(planned, f"row group {group}", packed, found.total_byte_size)
    return packed


def _check_unit(planned: PlannedObject, unit: str, packed: int, size: int) -> None:
    if size > max(FREE_BYTES, MAX_EXPANSION * packed):
        raise BadInput(
            object_uri(planned),
            None,
            f"{unit} expands to more than {MAX_EXPANSION} times its size ({packed} to {size} bytes); "
            "refused as a decompression bomb: unpack it yourself if it is meant",
        )
    if size > _MAX_UNIT_BYTES:
        raise BadInput(
            object_uri(planned), None, f"{unit} unpacks to {size} bytes; at most {_MAX_UNIT_BYTES} are allowed"
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
    except (pa.ArrowException, OSError, ValueError, struct.error) as fault:
        raise BadInput(
            object_uri(planned),
            None,
            f"not readable as {kind} of {planned.size} bytes ({_likely(planned)}): {fault}",
        ) from fault


def _likely(planned: PlannedObject) -> str:
    """Why it may be unreadable: the stream format of Arrow has the same names, and no table of its batches."""
    if planned.framing == "arrow" and open_object(planned).read(4) == STREAM_BEGINS:
        return "it is an Arrow IPC stream: write it anew with pyarrow.ipc.new_file"
    return "cut short or damaged?"
