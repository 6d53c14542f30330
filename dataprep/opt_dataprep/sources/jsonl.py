"""JSON lines: a line belongs to the slice in which it begins; an endless line is skipped, never held."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from opt_api.documents.dataprep import PlannedObject
from opt_dataprep.errors import BadInput
from opt_dataprep.sources.compression import unpacked
from opt_dataprep.sources.document import Oversized, Rejected, SourceDocument
from opt_dataprep.sources.objects import blocks
from opt_dataprep.sources.uris import object_uri

_ENVELOPE = 1 << 20
"""Bytes a line may be longer than a document: escapes and other fields count too; see `line_limit`."""
_SAMPLE = 4096


def line_limit(max_document_bytes: int) -> int:
    """Longest line that is read, in bytes: one byte of the text may be written as six, an escape of a control."""
    return 6 * max_document_bytes + _ENVELOPE


def read_jsonl(
    planned: PlannedObject, number: int, start: int, end: int, column: str, limit: int
) -> Iterator[SourceDocument | Rejected]:
    """Yield the documents of the lines that begin in bytes [start, end) (of the whole, if compressed)."""
    lines = (
        _Lines(unpacked(planned), 0, None, line_limit(limit))
        if planned.compression != "none"
        else _from(planned, start, end, line_limit(limit))
    )
    framed = missing = 0
    fields: list[str] = []
    for position, length, line in lines:
        found = Oversized(number, position, length, line) if length > len(line) else _parse(line, column)
        if isinstance(found, Rejected):
            yield found
        elif isinstance(found, str):
            framed += 1
            size = len(found)
            if size * 4 > limit and len(found.encode(errors="replace")) > limit:
                yield Oversized(number, position, length, line[:_SAMPLE])
            else:
                yield SourceDocument(number, position, length, found)
        elif found.reason:
            missing += found.reason == "missing_text"
            fields = fields or found.fields
            yield Rejected(number, position, length, found.reason, line[:_SAMPLE])
    if missing and not framed:
        raise BadInput(
            object_uri(planned),
            start,
            f"no line has a string under the key {column!r}; the first has {fields}: set textField to one of them",
        )


@dataclass(frozen=True)
class _Failure:
    reason: str
    fields: list[str] = field(default_factory=list)


def _parse(line: bytes, column: str) -> str | _Failure:
    if not line.strip():
        return _Failure("")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return _Failure("invalid_json")
    if not isinstance(value, dict):
        return _Failure("invalid_json")
    text = value.get(column)
    return text if isinstance(text, str) else _Failure("missing_text", sorted(value)[:20])


def _from(planned: PlannedObject, start: int, end: int, limit: int) -> Iterator[tuple[int, int, bytes]]:
    """Lines that begin in [start, end): what runs over from the slice before is left to that slice."""
    begin = _first_line(planned, start, end) if start else 0
    if begin is not None:
        yield from _Lines(blocks(planned, begin), begin, end, limit)


def _first_line(planned: PlannedObject, start: int, end: int) -> int | None:
    """Where the first line begins in [start, end); looked for no further, so that an endless line is read once."""
    offset = start - 1
    for block in blocks(planned, offset):
        found = block.find(b"\n", 0, end - offset)
        if found >= 0:
            return offset + found + 1
        offset += len(block)
        if offset >= end:
            break
    return None


class _Lines:
    """Iterates over (position, length, content) of lines; content is cut to a sample when longer than `limit`."""

    def __init__(self, source: Iterator[bytes], position: int, end: int | None, limit: int) -> None:
        self._source, self._position, self._end, self._limit = source, position, end, limit
        self._rest, self._at = b"", 0

    def __iter__(self) -> Iterator[tuple[int, int, bytes]]:
        return self

    def __next__(self) -> tuple[int, int, bytes]:
        if self._end is not None and self._position >= self._end:
            raise StopIteration
        held: list[bytes] = []
        length = kept = 0
        while True:
            cut = self._rest.find(b"\n", self._at)
            piece = self._rest[self._at : cut] if cut >= 0 else self._rest[self._at :]
            length += len(piece)
            if kept <= self._limit:
                held.append(piece)
                kept += len(piece)
            if cut >= 0:
                self._at = cut + 1
                return self._line(held, length, 1)
            block = next(self._source, None)
            if block is None:
                if not length:
                    raise StopIteration
                self._rest, self._at = b"", 0
                return self._line(held, length, 0)
            self._rest, self._at = block, 0

    def _line(self, held: list[bytes], length: int, newline: int) -> tuple[int, int, bytes]:
        position = self._position
        self._position += length + newline
        content = b"".join(held)
        return position, length, content if length <= self._limit else content[:_SAMPLE]
