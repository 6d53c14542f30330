"""Reading: ranges in parallel, each tried again by itself, all of one version of the object."""

from collections.abc import Callable
from typing import TypeVar

from minio.error import S3Error

from opt_store.digest import Check, Hasher, finish, hasher, verify
from opt_store.errors import Corrupt, PreconditionFailed, Unavailable
from opt_store.interface import ObjectInfo, Room
from opt_store.parallel import in_order
from opt_store.s3.faults import DamagedError
from opt_store.s3.objects import info_of, stat
from opt_store.s3.parts import ranges
from opt_store.s3.retry import again
from opt_store.s3.wire import Wire

T = TypeVar("T")
WHOLE_READS = 3
"""Times a whole object is read when its digest does not match or it is replaced meanwhile: damage on the way passes,
damage in the store stays."""


def load(wire: Wire, key: str, expect: str | None, room: Room) -> memoryview:
    """See `Store.load`."""
    return settled(lambda: _load_once(wire, key, expect, room))


def into(wire: Wire, key: str, offset: int, buffer: memoryview, expect: str | None, etag: str | None = None) -> None:
    """See `Store.read_into`; with an etag only from that version of the object."""
    wanted = ranges(offset, buffer.nbytes, wire.settings.part_bytes)
    if expect is None:
        parts(wire, key, wanted, offset, buffer, etag, None)
        return

    def act() -> None:
        running = hasher()
        parts(wire, key, wanted, offset, buffer, etag, running)
        verify(f"{wire.name(key)}, bytes {offset} to {offset + buffer.nbytes}", finish(running), expect)

    settled(act)


def parts(
    wire: Wire,
    key: str,
    wanted: list[tuple[int, int]],
    base: int,
    buffer: memoryview,
    etag: str | None,
    running: Hasher | None,
) -> None:
    """Fetch ranges of an object, each to its place in `buffer`, which begins at offset `base` of the object.

    A part is hashed as soon as those before it are, while others still come and it is still in the cache.
    """

    def task(start: int, length: int) -> Callable[[], memoryview]:
        view = buffer[start - base : start - base + length]

        def act() -> memoryview:
            fetch(wire, key, start, view, etag)
            return view

        return act

    for view in in_order((task(start, length) for start, length in wanted), wire.settings.parallel):
        if running is not None:
            running.update(view)


def fetch(wire: Wire, key: str, offset: int, buffer: memoryview, etag: str | None) -> None:
    """Fill `buffer` with the bytes from `offset`, tried again as the table of faults says.

    Raises:
        ValueError: The object does not reach that far.
        PreconditionFailed: The object is not the one of this etag any more.
    """
    headers = {"Range": f"bytes={offset}-{offset + buffer.nbytes - 1}"}
    if etag:
        headers["If-Match"] = f'"{etag}"'
    again(wire.name(key), wire.settings, lambda _: _fetch_once(wire, key, offset, buffer, headers))


def settled(act: Callable[[], T]) -> T:
    """Read again what came damaged, or was replaced while it was read."""
    for _ in range(WHOLE_READS - 1):
        try:
            return act()
        except (Corrupt, PreconditionFailed):
            continue
    try:
        return act()
    except PreconditionFailed as fault:
        raise Unavailable(f"{fault}; it was replaced each of the {WHOLE_READS} times it was read") from fault


def _load_once(wire: Wire, key: str, expect: str | None, room: Room) -> memoryview:
    info, data, check = again(wire.name(key), wire.settings, lambda _: _first_part(wire, key, expect, room))
    first = min(info.size, wire.settings.part_bytes)
    rest = ranges(first, info.size - first, wire.settings.part_bytes)
    parts(wire, key, rest, 0, data, info.etag, check.running)
    check.verify(wire.name(key))
    return data


def _first_part(wire: Wire, key: str, expect: str | None, room: Room) -> tuple[ObjectInfo, memoryview, Check]:
    """Fetch the first part, which tells the size of the whole, make room for all of it, and begin its check."""
    try:
        response = wire.open("GET", key, headers={"Range": f"bytes=0-{wire.settings.part_bytes - 1}"})
    except S3Error as fault:
        if fault.code != "InvalidRange":
            raise
        return _nothing(wire, key, expect)
    headers = {name.lower(): value for name, value in response.headers.items()}
    total = headers.get("content-range", "").rpartition("/")[2] or headers.get("content-length", "")
    if not total.isdigit():
        response.close()
        raise DamagedError("the response does not tell the object's size")
    info = info_of(key, headers, int(total))
    data = memoryview(room(info.size)).cast("B")[: info.size]
    check = Check.of(info.digest, info.checksum, expect)
    wire.receive(response, data[: wire.settings.part_bytes], check.running)
    return info, data, check


def _nothing(wire: Wire, key: str, expect: str | None) -> tuple[ObjectInfo, memoryview, Check]:
    """An empty object has no first byte that a range could begin with."""
    info = stat(wire, key)
    if info.size:
        raise PreconditionFailed(f"{wire.name(key)}: it was replaced while it was read")
    return info, memoryview(b""), Check.of(info.digest, info.checksum, expect)


def _fetch_once(wire: Wire, key: str, offset: int, buffer: memoryview, headers: dict[str, str]) -> None:
    try:
        response = wire.open("GET", key, headers=headers)
    except S3Error as fault:
        if fault.code == "InvalidRange":
            raise ValueError(f"{wire.name(key)}: it ends before offset {offset}") from None
        raise
    found = response.headers.get("Content-Range", "")
    span, _, total = found.removeprefix("bytes ").partition("/")
    if span != f"{offset}-{offset + buffer.nbytes - 1}":
        response.close()
        if span.startswith(f"{offset}-") and total.isdigit() and int(total) < offset + buffer.nbytes:
            raise ValueError(
                f"{wire.name(key)}: {buffer.nbytes} bytes wanted from offset {offset}, it has {total} in all"
            )
        raise DamagedError(f"asked for {headers['Range']}, the answer has status {response.status} and range {found!r}")
    wire.receive(response, buffer)
