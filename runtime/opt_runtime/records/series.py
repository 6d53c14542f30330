"""An append-only series of documents in the store: one object each, numbered without gaps, never written over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Generic, TypeVar

from opt_api.documents.base import Document
from opt_store import NotFound, PreconditionFailed, Store, in_order

D = TypeVar("D", bound=Document)
_TRIES = 100
AT_ONCE, READ_AHEAD = 16, 64
"""Documents asked for at once, and of one go; the first go is of one, as mostly a reader is at the end."""


class Taken(Exception):  # noqa: N818 - caught by what happened
    """Another writer has appended to a series that has one writer only."""


class Series(Generic[D]):
    """Documents `<prefix><number>.json`, from 1 on.

    Args:
        store: Where.
        key: Key of a number; all keys of the series sort in the order of their numbers.
        document: What they are.
    """

    def __init__(self, store: Store, key: Callable[[int], str], document: type[D]) -> None:
        self._store, self._key, self._document = store, key, document
        self._next = 1

    def read(self) -> Iterator[D]:
        """Yield what is not yet read, in order, until the end.

        Raises:
            opt_store.Corrupt, pydantic.ValidationError: An object is damaged; nothing after it is believed.
        """
        count = 1
        while True:
            numbers = range(self._next, self._next + count)
            for data in in_order([partial(self._get, number) for number in numbers], AT_ONCE):
                if data is None:
                    return
                self._next += 1
                yield self._document.from_bytes(data)
            count = min(2 * count, READ_AHEAD)

    @property
    def number(self) -> int:
        """Of the last document that was read or written here; 0 for none."""
        return self._next - 1

    def skip(self, number: int) -> None:
        """Take everything up to this number as read."""
        self._next = number + 1

    def _get(self, number: int) -> bytes | None:
        try:
            return self._store.get(self._key(number))
        except NotFound:
            return None

    def append(self, make: Callable[[int], D], *, alone: bool = False) -> D:
        """Write the next document; `make` gets its number.

        Args:
            make: Builds the document. Contents of rivals must differ (time, writer), or a retried put cannot tell them.
            alone: This writer is the only one: another's document in its place is no coincidence but a rival.

        Raises:
            Taken: `alone`, and there is a rival; or rivals without end.
            opt_store.StoreError: The store does not answer; append again.
        """
        for _ in range(_TRIES):
            document = make(self._next)
            try:
                self._store.put(self._key(self._next), document.to_bytes(), if_absent=True)
            except PreconditionFailed as rival:
                if alone:
                    raise Taken(f"{self._key(self._next)!r} in {self._store.url} was written by another") from rival
                for _ in self.read():
                    pass
                continue
            self._next += 1
            return document
        raise Taken(f"{self._key(self._next)!r} in {self._store.url}: {_TRIES} rivals in a row")
