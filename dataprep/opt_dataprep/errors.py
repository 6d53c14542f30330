"""What can go wrong with the data, each error naming the object and the place in it."""

# ruff: noqa: N818 - they are caught by what happened, as the store's errors are

from __future__ import annotations


class DataprepError(Exception):
    """Base of this package's errors; trying again without a change does not help."""


class BadInput(DataprepError):
    """A source object cannot be read as what it claims to be."""

    def __init__(self, where: str, offset: int | None, problem: str) -> None:
        """Name the object, the byte offset in it (None: no single place) and what was found and is allowed."""
        at = "" if offset is None else f" at byte {offset}"
        super().__init__(f"{where}{at}: {problem}")


class SourceChanged(DataprepError):
    """A source object is not the one that the plan was made from."""


class TokenizerMismatch(DataprepError):
    """The fast tokenizer and the reference disagree on a document."""


class NoScratch(DataprepError):
    """The worker's own disk is full or broken."""


class WorkerLost(DataprepError):
    """Workers died on one task more often than is allowed."""
