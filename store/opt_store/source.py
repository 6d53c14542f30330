"""What is uploaded, seen as one run of bytes: a file, or buffers that follow one another."""

from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path

from opt_store.buffers import new_buffer
from opt_store.digest import Buffer, finish, hasher
from opt_store.interface import Source

BLOCK = 4 << 20


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
    view, done = memoryview(buffer).cast("B"), 0
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
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
