"""Pages of keys and values: who holds which, and which can be found again by what they hold."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from opt_serving.settings import PAGE

_START = b"\0" * 16


def page_keys(tokens: Sequence[int], pages: int, before: bytes = _START) -> list[bytes]:
    """The name of each of the first `pages` whole pages: a digest of all tokens up to its end."""
    keys = []
    for page in range(pages):
        part = np.asarray(tokens[page * PAGE : (page + 1) * PAGE], np.int32).tobytes()
        before = hashlib.blake2b(part, digest_size=16, key=before).digest()
        keys.append(before)
    return keys


class PagePool:
    """A fixed number of pages, each held by any number of sequences, or free, or free with something to be found."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count - 1, -1, -1))
        self._holders = [0] * count
        self._found: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        """Pages that nobody holds but that can be found; the one left alone longest comes first."""

    @property
    def available(self) -> int:
        """Pages that can be taken."""
        return len(self._free) + len(self._idle)

    def find(self, keys: Sequence[bytes]) -> list[int]:
        """Pages of the longest run of keys that is known, from the first on; not held yet."""
        found = []
        for key in keys:
            page = self._found.get(key)
            if page is None:
                break
            found.append(page)
        return found

    def take(self, known: Sequence[int], fresh: int) -> list[int] | None:
        """Hold some found pages and `fresh` new ones; None, and nothing changes, when there are too few."""
        revived = sum(1 for page in known if self._holders[page] == 0)
        if fresh > self.available - revived:
            return None
        for page in known:
            self._idle.pop(page, None)
            self._holders[page] += 1
        new = [self._take_one() for _ in range(fresh)]
        return [*known, *new]

    def name(self, page: int, key: bytes) -> None:
        """Let a full page be found; the first page of a name keeps it."""
        if key not in self._found and page not in self._key_of:
            self._found[key] = page
            self._key_of[page] = key

    def give_back(self, pages: Sequence[int]) -> None:
        """Let go of pages; the later ones of a sequence are reused sooner than those at its start."""
        for page in reversed(pages):
            self._holders[page] -= 1
            if self._holders[page] == 0:
                if page in self._key_of:
                    self._idle[page] = None
                else:
                    self._free.append(page)

    def _take_one(self) -> int:
        if self._free:
            page = self._free.pop()
        else:
            page, _ = self._idle.popitem(last=False)
            del self._found[self._key_of.pop(page)]
        self._holders[page] = 1
        return page
