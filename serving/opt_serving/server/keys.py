"""API keys, as servers and gateways check them."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path


class Keys:
    """API keys from a file, one a line; read anew when it changes, so that keys rotate without a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._digests: list[bytes] = []

    def allow(self, given: str) -> bool:
        """Whether a key is among them; takes as long whichever it is."""
        self._refresh()
        digest = _digest(given)
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                lines = self._path.read_text().splitlines()
                self._digests = [_digest(line.strip()) for line in lines if line.strip()]
                self._seen = seen
        except FileNotFoundError:
            self._digests, self._seen = [], None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
