"""The few calls that everything else in this project makes on a store, and what they promise.

Promises of every implementation:

- An object is there whole or not at all; a reader never sees a short or a mixed one.
- A write that returned is durable; a read that returned has the recorded size, and the recorded digest where one is
  recorded. Otherwise an error of `opt_store.errors` is raised.
- Objects written through this package carry their digest; others are read too, with the size checked.
- Calls may be made from many threads at once.
- No key may be the folder of another ('a' beside 'a/b'): a file system cannot hold that.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from opt_store.buffers import new_buffer
from opt_store.digest import Buffer

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all), from any thread, never after the call it was given to has returned."""

Room = Callable[[int], bytearray | memoryview]
"""Gives memory for so many bytes, or more, to read into: `opt_store.new_buffer`, or what the caller has."""

Source = Path | Sequence[Buffer]
"""What is uploaded: a file, or buffers that follow one another and stay unchanged until the call returns."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store knows of one object.

    Attributes:
        key: Relative to the store's URL.
        size: In bytes.
        etag: Names this content of this key in `put(..., if_match=...)`; no meaning beyond equality.
        digest: ``sha256:<hex>`` of the content; None if it was written by another program, and in listings.
        checksum: ``xxh3-128:<hex>`` of the content, where the store records it; None as above. Not compared.
    """

    key: str
    size: int
    etag: str
    digest: str | None = None
    checksum: str | None = field(default=None, compare=False, repr=False)


@runtime_checkable
class Store(Protocol):
    """An object store, opened by `opt_store.open_store`."""

    @property
    def url(self) -> str:
        """The URL it was opened with; it holds no secret."""

    def get(self, key: str, expect: str | None = None) -> bytes:
        """Return the content; it is checked against the stored digest and against `expect`.

        Raises:
            NotFound, Corrupt, StoreError: See `opt_store.errors`.
        """

    def load(self, key: str, expect: str | None = None, room: Room = new_buffer) -> memoryview:
        """Return the content in memory of the caller's choice: as `get`, without a copy, in parallel parts when large.

        Without `expect` the stored record is checked, by its checksum where there is one; with it, the digest.

        Raises:
            NotFound, Corrupt, StoreError: See `opt_store.errors`.
        """

    def read_range(self, key: str, offset: int, length: int, expect: str | None = None) -> bytes:
        """Return exactly `length` bytes from `offset`; `expect` is the digest of these bytes alone.

        Without `expect` only the length can be checked: the stored digest is of the whole object.

        Raises:
            ValueError: The object does not reach that far, or a number is negative.
            NotFound, Corrupt, StoreError: See `opt_store.errors`.
        """

    def read_into(self, key: str, offset: int, buffer: bytearray | memoryview, expect: str | None = None) -> None:
        """Fill `buffer` with the bytes from `offset`, in parallel parts when it is large; else as `read_range`."""

    def put(self, key: str, data: Buffer, *, if_absent: bool = False, if_match: str | None = None) -> ObjectInfo:
        """Write a small object in one go, replacing what is there.

        Args:
            key: Its name.
            data: Its content; use `upload` above some 64 MiB.
            if_absent: Only when there is no such object.
            if_match: Only when the object there has this etag.

        Raises:
            PreconditionFailed: The condition did not hold; nothing was written. A put that is retried after its answer
                was lost, and then finds its own bytes in place, counts as done: make contents of rivals differ.
            StoreError: See `opt_store.errors`.
        """

    def upload(
        self,
        key: str,
        source: Source,
        *,
        if_absent: bool = False,
        expect: str | None = None,
        progress: Progress | None = None,
    ) -> ObjectInfo:
        """Write an object of any size, in parallel parts, going on from a half-done upload of the same content.

        Raises:
            Corrupt: The source does not have the digest `expect`; nothing was written.
            PreconditionFailed: `if_absent` was given and the object exists.
            StoreError: See `opt_store.errors`.
        """

    def download(
        self, key: str, path: Path, *, expect: str | None = None, progress: Progress | None = None
    ) -> ObjectInfo:
        """Write an object to a file, in parallel parts, going on from a half-done download of the same object.

        The file appears under its name only when complete and checked; before, it is ``<path>.part`` beside it.

        Raises:
            NotFound, Corrupt, StoreError: See `opt_store.errors`.
        """

    def stat(self, key: str) -> ObjectInfo:
        """Return what is known of an object.

        Raises:
            NotFound: There is none.
        """

    def exists(self, key: str) -> bool:
        """Tell whether there is such an object."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with `prefix`, in the order of the keys' bytes, without digests."""

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if there is none."""

    def check_access(self, *, write: bool = True) -> None:
        """Find out, before work starts, whether the store can be used.

        Args:
            write: Also write and remove a small object.

        Raises:
            StoreError: What is wrong with endpoint, bucket, folder, clock or credentials, by name.
        """
