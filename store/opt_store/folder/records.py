"""The digest of each object in a folder: a small file, named by the size and time of the content it speaks of."""

import os
from contextlib import suppress
from pathlib import Path


class Records:
    """Digests kept under `root`, in the same tree of folders as the objects."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def remember(self, key: str, content: os.stat_result, digest: str) -> None:
        """Write down the digest of a content, before that content takes its name."""
        path = self._path(key, content)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(digest)

    def recall(self, key: str, content: os.stat_result) -> str | None:
        """Return the digest of exactly this content, if it was written through the store."""
        with suppress(FileNotFoundError, NotADirectoryError):
            return self._path(key, content).read_text() or None
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

    def _path(self, key: str, content: os.stat_result) -> Path:
        return self._folder(key) / f"{content.st_mtime_ns:x}-{content.st_size:x}"


def remove_empty(folder: Path, root: Path) -> None:
    """Remove `folder` and its parents below `root` as long as they are empty."""
    while folder != root:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
