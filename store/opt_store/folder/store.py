"""The folder store itself.

Objects are plain files under their keys. Beside them, under ``.opt-store``, lie temporary files, the lock that orders
commits, and the records of digests. A commit is: content into a temporary file and through to the disk, record of its
digest, rename. A process killed at any point leaves the old object or the new one, each with its own digest.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import TypeVar

from opt_store.buffers import new_buffer
from opt_store.digest import Buffer, digest_of, verify
from opt_store.errors import BadEndpoint, Corrupt, NotFound, PreconditionFailed
from opt_store.folder.files import (
    exclusive,
    faults_of,
    sweep,
    sync_folder,
    temporary,
    write_durably,
)
from opt_store.folder.records import Records, remove_empty
from opt_store.interface import ObjectInfo, Progress, Room, Source
from opt_store.keys import RESERVED, check_key, check_prefix
from opt_store.source import blocks_of, blocks_of_file, fill, read_at, source_bytes

T = TypeVar("T", bytes, memoryview)


class FolderStore:
    """A `Store` in the folder `root`, which must exist."""

    def __init__(self, root: Path) -> None:
        self._root = root
        own = root / RESERVED
        self._temporary, self._lock, self._records = own / "tmp", own / "lock", Records(root)
        self._ready = False

    def __repr__(self) -> str:
        return f"FolderStore({self.url!r})"

    @property
    def url(self) -> str:
        """``file://`` and the absolute path."""
        return self._root.as_uri()

    def get(self, key: str, expect: str | None = None) -> bytes:
        """See `Store.get`."""
        return self._whole(key, expect, lambda file, size: file.readall())

    def load(self, key: str, expect: str | None = None, room: Room = new_buffer) -> memoryview:
        """See `Store.load`."""

        def take(file: FileIO, size: int) -> memoryview:
            data = memoryview(room(size)).cast("B")[:size]
            return data[: fill(file, data)]

        return self._whole(key, expect, take)

    def _whole(self, key: str, expect: str | None, take: Callable[[FileIO, int], T]) -> T:
        with faults_of(check_key(key), self._root, reading=True), self._path(key).open("rb", buffering=0) as file:
            content = os.fstat(file.fileno())
            data = take(file, content.st_size)
            verify(f"object {key!r} in {self.url}", digest_of(data), self._records.recall(key, content), expect)
            return data

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
        with faults_of(check_key(key), self._root, reading=True):
            wanted, size = memoryview(buffer).nbytes, self._content(key).st_size
            if offset + wanted > size or read_at(self._path(key), offset, buffer) != wanted:
                raise ValueError(f"object {key!r}: {wanted} bytes wanted from offset {offset}, it has {size} in all")
        if expect is not None:
            verify(f"object {key!r} in {self.url}, bytes {offset} to {offset + wanted}", digest_of(buffer), expect)

    def put(self, key: str, data: Buffer, *, if_absent: bool = False, if_match: str | None = None) -> ObjectInfo:
        """See `Store.put`."""
        return self._write(key, [data], if_absent=if_absent, if_match=if_match)

    def upload(
        self,
        key: str,
        source: Source,
        *,
        if_absent: bool = False,
        expect: str | None = None,
        progress: Progress | None = None,
    ) -> ObjectInfo:
        """See `Store.upload`; a half-done upload starts anew, for it is only a copy."""
        return self._write(key, source, if_absent=if_absent, expect=expect, progress=progress)

    def download(
        self, key: str, path: Path, *, expect: str | None = None, progress: Progress | None = None
    ) -> ObjectInfo:
        """See `Store.download`; a half-done download starts anew, for it is only a copy."""
        part = path.with_name(path.name + ".part")
        with faults_of(check_key(key), self._root, reading=True), self._path(key).open("rb", buffering=0) as file:
            info = self._info(key, os.fstat(file.fileno()))
            part.unlink(missing_ok=True)
            found = write_durably(part, blocks_of_file(file), info.size, progress)
        try:
            verify(f"object {key!r} in {self.url}", found, info.digest, expect)
        except Corrupt:
            part.unlink()
            raise
        part.replace(path)
        return info

    def stat(self, key: str) -> ObjectInfo:
        """See `Store.stat`."""
        with faults_of(check_key(key), self._root, reading=True):
            return self._info(key, self._content(key))

    def exists(self, key: str) -> bool:
        """See `Store.exists`."""
        try:
            self.stat(key)
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `Store.list`."""
        folder = self._root / check_prefix(prefix).rpartition("/")[0]
        with faults_of(prefix, self._root):
            keys = sorted(key for key in self._keys(folder) if key.startswith(prefix))
        for key in keys:
            with suppress(FileNotFoundError, NotADirectoryError):  # removed since the listing
                content = self._content(key)
                yield ObjectInfo(key, content.st_size, self._info(key, content).etag)

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        with suppress(NotFound), faults_of(check_key(key), self._root, reading=True):
            self._prepare()
            with exclusive(self._lock):
                self._content(key)
                path = self._path(key)
                path.unlink()
                self._records.forget(key)
                remove_empty(path.parent, self._root)

    def check_access(self, *, write: bool = True) -> None:
        """See `Store.check_access`."""
        if not self._root.is_dir():
            raise BadEndpoint(f"folder {self._root}: it does not exist or is no folder; create it or mount the volume")
        with faults_of("", self._root):
            next(self._root.iterdir(), None)
            if write:
                self._prepare()
                with temporary(self._temporary) as probe:
                    write_durably(probe, blocks_of([b"probe"]))

    def _write(
        self,
        key: str,
        source: Source,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        expect: str | None = None,
        progress: Progress | None = None,
    ) -> ObjectInfo:
        path = self._path(check_key(key))
        with faults_of(key, self._root):
            self._prepare()
            with temporary(self._temporary) as fresh:
                digest = write_durably(fresh, blocks_of(source), source_bytes(source), progress)
                verify(f"source of object {key!r}", digest, expect)
                with exclusive(self._lock):
                    self._check_condition(key, if_absent=if_absent, if_match=if_match)
                    return self._commit(key, fresh, path, digest)

    def _commit(self, key: str, fresh: Path, path: Path, digest: str) -> ObjectInfo:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = fresh.stat()
        self._records.remember(key, content, digest)
        fresh.replace(path)
        sync_folder(path.parent)
        self._records.forget(key, keep=content)
        return self._info(key, content)

    def _check_condition(self, key: str, *, if_absent: bool, if_match: str | None) -> None:
        if not if_absent and if_match is None:
            return
        try:
            found = self._info(key, self._content(key)).etag
        except (FileNotFoundError, NotADirectoryError):
            found = None
        if if_absent and found is not None:
            raise PreconditionFailed(f"object {key!r} in {self.url}: it exists already (etag {found}); not replaced")
        if if_match is not None and found != if_match:
            raise PreconditionFailed(
                f"object {key!r} in {self.url}: its etag is {found}, expected {if_match}; read it again and decide anew"
            )

    def _prepare(self) -> None:
        if self._ready:
            return
        if not self._root.is_dir():
            self.check_access(write=False)
        self._temporary.mkdir(parents=True, exist_ok=True)
        sweep(self._temporary)
        self._ready = True

    def _keys(self, folder: Path) -> Iterator[str]:
        for parent, folders, names in os.walk(folder):
            at = Path(parent).relative_to(self._root)
            folders[:] = [name for name in folders if name != RESERVED]  # a store inside this one has its own
            yield from ((at / name).as_posix() for name in names)

    def _content(self, key: str) -> os.stat_result:
        path = self._path(key)
        if path.is_dir():
            raise FileNotFoundError(2, "a folder is no object", str(path))
        return path.stat()

    def _info(self, key: str, content: os.stat_result) -> ObjectInfo:
        digest = self._records.recall(key, content)
        etag = digest or f"{content.st_mtime_ns:x}-{content.st_size:x}"
        return ObjectInfo(key, content.st_size, etag, digest)

    def _path(self, key: str) -> Path:
        return self._root / key
