"""What is uploaded, seen as one run of bytes: a file, or buffers that follow one another."""

from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Protocol

from opt_store.buffers import new_buffer
from opt_store.digest import Buffer, finish, finish_checksum, hasher, summer
from opt_store.interface import Source

BLOCK = 4 << 20
_IN_CACHE = 256 << 10
"""Bytes that are still in the processor's cache when they are gone through a second time."""


class Taker(Protocol):
    """Takes in bytes, block by block."""

    def update(self, data: Buffer, /) -> None:
        """Take in more bytes."""


def source_bytes(source: Source) -> int:
    """Return the size of the source."""
    return source.stat().st_size if isinstance(source, Path) else sum(memoryview(b).nbytes for b in source)


def blocks_of(source: Source, size: int = BLOCK) -> Iterator[memoryview]:
    """Yield the source in blocks of at most `size` bytes; a block is good until the next one is asked for."""
    if isinstance(source, Path):
        with source.open("rb", buffering=0) as file:
            yield from blocks_of_file(file, size)
        return
    for buffer in source:
        flat = memoryview(buffer).cast("B")
        for start in range(0, flat.nbytes, size):
            yield flat[start : start + size]


def blocks_of_file(file: FileIO, size: int = BLOCK) -> Iterator[memoryview]:
    """Yield the rest of an open file in blocks of at most `size` bytes; a block is good until the next."""
    block = memoryview(bytearray(size))
    while count := file.readinto(block):
        yield block[:count]


def digest_of_source(source: Source) -> str:
    """Return the digest of the whole source."""
    running = hasher()
    for block in blocks_of(source):
        running.update(block)
    return finish(running)


def checksum_of_source(source: Source) -> str:
    """Return the checksum of the whole source."""
    running = summer()
    for block in blocks_of(source):
        running.update(block)
    return finish_checksum(running)


def marks_of_source(source: Source) -> tuple[str, str]:
    """Return digest and checksum of the whole source, which is gone through once."""
    digest, checksum = hasher(), summer()
    feed(source, digest, checksum)
    return finish(digest), finish_checksum(checksum)


def feed(source: Source, *hashers: Taker) -> None:
    """Give the whole source to several hashers, block by block, so that the later ones find it in the cache."""
    for block in blocks_of(source, _IN_CACHE):
        for one in hashers:
            one.update(block)


def part_of(source: Source, offset: int, length: int) -> memoryview:
    """Return bytes of the source: a view where they lie in one buffer, else a copy.

    Raises:
        ValueError: The source does not reach that far (a file was cut while it was read).
    """
    found = _part_of_file(source, offset, length) if isinstance(source, Path) else _part_of(source, offset, length)
    if found.nbytes != length:
        raise ValueError(f"source: {length} bytes wanted from offset {offset}, found {found.nbytes}: it was cut short")
    return found


def read_at(path: Path, offset: int, buffer: Buffer) -> int:
    """Fill `buffer` from `offset` of a file as far as it reaches; return the bytes read."""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return fill(file, memoryview(buffer).cast("B"))


def fill(file: FileIO, view: memoryview) -> int:
    """Fill a view from where an open file is, as far as it reaches; return the bytes read."""
    done = 0
    while done < view.nbytes and (count := file.readinto(view[done:])):
        done += count
    return done


def _part_of_file(path: Path, offset: int, length: int) -> memoryview:
    data = new_buffer(length)
    return data[: read_at(path, offset, data)]


def _part_of(buffers: Sequence[Buffer], offset: int, length: int) -> memoryview:
    pieces, start = [], 0
    for buffer in buffers:
        flat = memoryview(buffer).cast("B")
        piece = flat[max(0, offset - start) : max(0, offset + length - start)]
        if piece.nbytes:
            pieces.append(piece)
        start += flat.nbytes
    return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
