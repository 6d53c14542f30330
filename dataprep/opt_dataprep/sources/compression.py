"""gzip and zstd as streams: bounded output at a time, cut-off and damaged streams named, bombs refused."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import zstandard

from opt_api.documents.dataprep import PlannedObject
from opt_dataprep.errors import BadInput
from opt_dataprep.sources.objects import blocks
from opt_dataprep.sources.uris import object_uri

CHUNK = 1 << 20
"""Unpacked bytes held at a time."""
MAX_EXPANSION = 250
"""Unpacked bytes per packed byte; text packs 3 to 10 times, gzip cannot pass 1032, a bomb of zeros nears that."""
FREE_BYTES = 16 << 20
"""Small objects may expand as they like up to this."""
_MORSEL = 2048
"""Packed bytes given to zstd at once: a block of 4 bytes may unpack to 128 KiB (RFC 8878, 3.1.1.2), so at most 64 MiB
come back."""
_MAX_WINDOW = 128 << 20
"""Largest zstd window, which is memory; `zstd --long=27` makes it, more needs --ultra."""


def unpacked(planned: PlannedObject) -> Iterator[bytes]:
    """Yield the object's content in bounded pieces.

    Raises:
        BadInput: The stream is damaged, ends early, or expands beyond all reason.
    """
    total = 0
    for piece, offset in _UNPACKERS[planned.compression](planned):
        yield piece
        total += len(piece)
        if total > max(FREE_BYTES, MAX_EXPANSION * offset):
            raise BadInput(
                object_uri(planned),
                offset,
                f"expands to more than {MAX_EXPANSION} times its size ({total} bytes so far); refused as a "
                "decompression bomb: unpack it yourself if it is meant",
            )


def _plain(planned: PlannedObject) -> Iterator[tuple[bytes, int]]:
    offset = 0
    for block in blocks(planned):
        offset += len(block)
        yield block, offset


def _gzip(planned: PlannedObject) -> Iterator[tuple[bytes, int]]:
    member, offset = zlib.decompressobj(wbits=31), 0
    for block in blocks(planned):
        data = block
        while data:
            if member.eof:
                member = zlib.decompressobj(wbits=31)
                data = data.lstrip(b"\0")  # padding between and after members is allowed (gzip's manual, "Environment")
                continue
            piece, before = b"", len(data)
            try:
                piece = member.decompress(data, CHUNK)
            except zlib.error as fault:
                raise BadInput(object_uri(planned), offset, f"damaged gzip stream: {fault}") from fault
            data = member.unconsumed_tail or member.unused_data
            offset += before - len(data)
            yield piece, offset
    if not member.eof:
        yield from _tail(planned, member, offset)


def _tail(planned: PlannedObject, member: zlib._Decompress, offset: int) -> Iterator[tuple[bytes, int]]:
    while piece := member.decompress(member.unconsumed_tail, CHUNK):
        yield piece, offset
    if not member.eof:
        raise BadInput(object_uri(planned), offset, "gzip stream is cut short; replace the object with a whole one")


def _zstd(planned: PlannedObject) -> Iterator[tuple[bytes, int]]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    frame, offset = decompressor.decompressobj(), 0
    for morsel in _morsels(planned):
        data = morsel
        while data:
            if frame.eof:
                frame = decompressor.decompressobj()
            before = len(data)
            try:
                piece = frame.decompress(data)
            except zstandard.ZstdError as fault:
                raise BadInput(object_uri(planned), offset, f"damaged zstd stream: {fault}") from fault
            data = frame.unused_data
            offset += before - len(data)
            yield piece, offset
    if not frame.eof:
        raise BadInput(object_uri(planned), offset, "zstd stream is cut short; replace the object with a whole one")


def _morsels(planned: PlannedObject) -> Iterator[bytes]:
    for block in blocks(planned):
        for start in range(0, len(block), _MORSEL):
            yield block[start : start + _MORSEL]


_UNPACKERS: dict[str, Callable[[PlannedObject], Iterator[tuple[bytes, int]]]] = {
    "none": _plain,
    "gzip": _gzip,
    "zstd": _zstd,
}
