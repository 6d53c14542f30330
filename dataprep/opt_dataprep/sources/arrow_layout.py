"""Where the record batches of an Arrow IPC file lie, how many rows each has and how large it is unpacked.

pyarrow tells none of this without unpacking the batches, and a batch of some kilobytes can unpack to gigabytes. Read
from the file's own tables (Arrow Columnar Format, "IPC File Format"; FlatBuffers Internals; `File.fbs`, `Message.fbs`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

_TRAILER = struct.Struct("<i6s")
_BLOCK = struct.Struct("<qi4xq")
_BUFFER = struct.Struct("<qq")
_SIZE = struct.Struct("<q")
_CONTINUES = b"\xff\xff\xff\xff"
_FOOTER_DICTIONARIES, _FOOTER_BATCHES, _MESSAGE_HEADER, _DICTIONARY_VALUES = 2, 3, 2, 1
_BATCH_LENGTH, _BATCH_BUFFERS, _BATCH_COMPRESSION = 0, 2, 3


@dataclass(frozen=True)
class BatchLayout:
    """One record batch.

    Attributes:
        rows: Its rows.
        packed: Bytes of its buffers in the file.
        unpacked: Bytes of its buffers in memory.
    """

    rows: int
    packed: int
    unpacked: int


@dataclass(frozen=True)
class _Table:
    """A table of a FlatBuffer: the place of each field is in a table of offsets before it."""

    data: bytes
    at: int

    def field(self, number: int) -> int | None:
        """Place of a field, None if it has its default."""
        offsets = self.at - _int(self.data, self.at)
        entry = 4 + 2 * number
        if entry >= _short(self.data, offsets):
            return None
        relative = _short(self.data, offsets + entry)
        return self.at + relative if relative else None

    def pointer(self, number: int) -> int | None:
        """Place of what a field points to."""
        place = self.field(number)
        return None if place is None else place + _int(self.data, place)

    def below(self, number: int) -> _Table:
        """The table that a field points to."""
        place = self.pointer(number)
        if place is None:
            raise struct.error(f"field {number} is missing")
        return _Table(self.data, place)


def batch_layouts(file: IO[bytes], first: int = 0, last: int | None = None) -> Iterator[tuple[str, BatchLayout]]:
    """Yield names and layouts of all dictionaries and of record batches [first, last): what reading these unpacks.

    Args:
        file: A file that pyarrow opens as an Arrow IPC file.
        first: Number of the first record batch.
        last: Number of the one after the last; None for the end.

    Raises:
        struct.error: The file's tables point outside of it.
    """
    for number, (offset, metadata) in enumerate(_blocks(file, _FOOTER_DICTIONARIES)):
        values = _header(file, offset, metadata).below(_DICTIONARY_VALUES)
        yield f"dictionary {number}", _layout(file, offset + metadata, values)
    for number, (offset, metadata) in list(enumerate(_blocks(file, _FOOTER_BATCHES)))[first:last]:
        yield f"record batch {number}", _layout(file, offset + metadata, _header(file, offset, metadata))


def batch_rows(file: IO[bytes], count: int) -> int:
    """Rows of the first `count` record batches; nothing but their headers is read."""
    return sum(_rows(_header(file, *block)) for block in _blocks(file, _FOOTER_BATCHES)[:count])


def _blocks(file: IO[bytes], kind: int) -> list[tuple[int, int]]:
    """(offset, bytes of metadata) of each dictionary or record batch, from the footer."""
    end = file.seek(0, 2)
    size, _ = _TRAILER.unpack(_read(file, end - _TRAILER.size, _TRAILER.size))
    footer = _read(file, end - _TRAILER.size - size, size)
    blocks = _root(footer).pointer(kind)
    if blocks is None:
        return []
    return [_BLOCK.unpack_from(footer, blocks + 4 + _BLOCK.size * i)[:2] for i in range(_int(footer, blocks))]


def _layout(file: IO[bytes], body: int, batch: _Table) -> BatchLayout:
    """The layout of a batch whose buffers begin at `body` of the file."""
    place = batch.pointer(_BATCH_BUFFERS)
    count = 0 if place is None else _int(batch.data, place)
    buffers = [_BUFFER.unpack_from(batch.data, (place or 0) + 4 + _BUFFER.size * i) for i in range(count)]
    packed = sum(size for _, size in buffers)
    unpacked = packed
    if batch.field(_BATCH_COMPRESSION) is not None:
        unpacked = sum(_unpacked(file, body + start, size) for start, size in buffers)
    return BatchLayout(_rows(batch), packed, unpacked)


def _unpacked(file: IO[bytes], start: int, size: int) -> int:
    """Size that a compressed buffer names in its first eight bytes; -1 there says that it is not compressed."""
    if size < _SIZE.size:
        return size
    (named,) = _SIZE.unpack(_read(file, start, _SIZE.size))
    return size if named < 0 else int(named)


def _header(file: IO[bytes], offset: int, metadata: int) -> _Table:
    """What a message says of its batch; before the FlatBuffer stand its length and, since Arrow 0.15, a mark."""
    data = _read(file, offset, metadata)
    return _root(data[8:] if data.startswith(_CONTINUES) else data[4:]).below(_MESSAGE_HEADER)


def _root(data: bytes) -> _Table:
    return _Table(data, _int(data, 0))


def _rows(batch: _Table) -> int:
    place = batch.field(_BATCH_LENGTH)
    return 0 if place is None else int(_SIZE.unpack_from(batch.data, place)[0])


def _read(file: IO[bytes], offset: int, size: int) -> bytes:
    if offset < 0 or size < 0:
        raise struct.error(f"{size} bytes at {offset} wanted")
    file.seek(offset)
    return file.read(size)


def _int(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<i", data, at)[0])


def _short(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<H", data, at)[0])
