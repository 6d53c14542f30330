"""The digest of each object in a folder: a small file, named by the size and time of the content it speaks of."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from opt_store.keys import RESERVED

FOLDER = Path(RESERVED, "digests")


class Records:
    """Digests of the objects in the folder `store`, in the same tree of folders as they.

    A folder inside another store (an export, opened by its own address) is told of by that one's records too.
    """

    def __init__(self, store: Path) -> None:
        self._store, self._root = store, store / FOLDER

    def remember(self, key: str, content: os.stat_result, digest: str) -> None:
        """Write down the digest of a content, before that content takes its name."""
        path = self._path(key, content)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(digest)

    def recall(self, key: str, content: os.stat_result) -> str | None:
        """Return the digest of exactly this content, if it was written through the store."""
        for folder in (self._folder(key), *self._folders_of_outer_stores(key)):
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                if found := (folder / _stamp(content)).read_text():
                    return found
        return None

    def forget(self, key: str, keep: os.stat_result | None = None) -> None:
        """Remove what is recorded of a key, but for the content `keep`."""
        folder = self._folder(key)
        kept = keep and self._path(key, keep)
        with suppress(FileNotFoundError, NotADirectoryError):
            for path in folder.iterdir():
                if path != kept and path.is_file():
                    path.unlink(missing_ok=True)
            if keep is None:
                remove_empty(folder, self._root)

    def _folder(self, key: str) -> Path:
        # The suffix keeps the folder of 'a/b' and the record folder of 'a' apart.
        return self._root / f"{key}.digest"

    def _folders_of_outer_stores(self, key: str) -> Iterator[Path]:
        for outer in self._store.parents:
            yield outer / FOLDER / self._store.relative_to(outer) / f"{key}.digest"

    def _path(self, key: str, content: os.stat_result) -> Path:
        return self._folder(key) / _stamp(content)


def _stamp(content: os.stat_result) -> str:
    return f"{content.st_mtime_ns:x}-{content.st_size:x}"


def remove_empty(folder: Path, root: Path) -> None:
    """Remove `folder` and its parents below `root` as long as they are empty."""
    while folder != root:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
