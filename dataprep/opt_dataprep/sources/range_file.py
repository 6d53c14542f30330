"""An object of a store as a seekable file: pyarrow reads the parts it needs and no more."""

from __future__ import annotations

import io

from opt_store import Store


class RangeFile(io.RawIOBase):
    """Reads ranges of one object of known size."""

    def __init__(self, store: Store, key: str, size: int) -> None:
        self._store, self._key, self._size, self._at = store, key, size, 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset` from the start, the current place or the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """The current place."""
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most `size` bytes, or all that is left."""
        left = max(0, self._size - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        data = self._store.read_range(self._key, self._at, wanted) if wanted else b""
        self._at += len(data)
        return data
