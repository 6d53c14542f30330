"""The S3 store: which call goes where."""

from collections.abc import Iterator
from pathlib import Path

from opt_store.buffers import new_buffer
from opt_store.digest import Buffer, digest_of, verify
from opt_store.errors import NotFound
from opt_store.interface import ObjectInfo, Progress, Room, Source
from opt_store.keys import check_key, check_prefix
from opt_store.s3 import objects, read
from opt_store.s3.check import check_access
from opt_store.s3.download import download
from opt_store.s3.upload import upload
from opt_store.s3.wire import Wire
from opt_store.source import part_of, source_bytes

_CHECK_ATTEMPTS = 2


class S3Store:
    """A `Store` in one bucket, under one prefix."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def __repr__(self) -> str:
        return f"S3Store({self.url!r} at {self._wire.endpoint!r})"

    @property
    def url(self) -> str:
        """``s3://`` with bucket and prefix."""
        return self._wire.url

    def get(self, key: str, expect: str | None = None) -> bytes:
        """See `Store.get`."""
        return bytes(self.load(key, expect))

    def load(self, key: str, expect: str | None = None, room: Room = new_buffer) -> memoryview:
        """See `Store.load`."""
        return read.load(self._wire, check_key(key), expect, room)

    def read_range(self, key: str, offset: int, length: int, expect: str | None = None) -> bytes:
        """See `Store.read_range`."""
        if length < 0:
            raise ValueError(f"object {key!r}: length {length} is negative")
        data = bytearray(length)
        self.read_into(key, offset, data, expect)
        return bytes(data)

    def read_into(self, key: str, offset: int, buffer: bytearray | memoryview, expect: str | None = None) -> None:
        """See `Store.read_into`."""
        if offset < 0:
            raise ValueError(f"object {key!r}: offset {offset} is negative")
        view = memoryview(buffer).cast("B")
        if not view.nbytes:
            self._check_reach(key, offset)
            return
        read.into(self._wire, check_key(key), offset, view, expect)

    def put(self, key: str, data: Buffer, *, if_absent: bool = False, if_match: str | None = None) -> ObjectInfo:
        """See `Store.put`."""
        body = memoryview(data).cast("B")
        return objects.put(self._wire, check_key(key), body, if_absent=if_absent, if_match=if_match)

    def upload(
        self,
        key: str,
        source: Source,
        *,
        if_absent: bool = False,
        expect: str | None = None,
        progress: Progress | None = None,
    ) -> ObjectInfo:
        """See `Store.upload`."""
        size = source_bytes(source)
        if size > self._wire.settings.part_bytes:
            return upload(
                self._wire, check_key(key), source, size, if_absent=if_absent, expect=expect, progress=progress
            )
        body = part_of(source, 0, size)
        if expect is not None:
            verify(f"source of {self._wire.name(key)}", digest_of(body), expect)
        info = self.put(key, body, if_absent=if_absent)
        if progress:
            progress(size, size)
        return info

    def download(
        self, key: str, path: Path, *, expect: str | None = None, progress: Progress | None = None
    ) -> ObjectInfo:
        """See `Store.download`."""
        return download(self._wire, check_key(key), path, expect=expect, progress=progress)

    def stat(self, key: str) -> ObjectInfo:
        """See `Store.stat`."""
        return objects.stat(self._wire, check_key(key))

    def exists(self, key: str) -> bool:
        """See `Store.exists`."""
        try:
            self.stat(key)
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `Store.list`; gathered and sorted, because not every server lists in the order of bytes."""
        found = objects.listing(self._wire, check_prefix(prefix))
        yield from sorted(found, key=lambda info: info.key.encode())

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        try:
            self._wire.call("DELETE", check_key(key))
        except NotFound:
            return

    def check_access(self, *, write: bool = True) -> None:
        """See `Store.check_access`."""
        attempts = min(_CHECK_ATTEMPTS, self._wire.settings.attempts)
        check_access(
            self._wire.with_settings(self._wire.settings.model_copy(update={"attempts": attempts})), write=write
        )

    def _check_reach(self, key: str, offset: int) -> None:
        info = self.stat(key)
        if offset > info.size:
            raise ValueError(f"{self._wire.name(key)}: it ends before offset {offset}")
