"""Reading one planned object through the store: in blocks, at random, and refusing a changed one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opt_api.documents.dataprep import PlannedObject
from opt_dataprep.errors import BadInput, SourceChanged
from opt_dataprep.sources.range_file import RangeFile
from opt_dataprep.sources.uris import object_uri, store_at
from opt_store import NotFound

BLOCK = 4 << 20
"""Bytes asked of the store at once."""


def blocks(planned: PlannedObject, start: int = 0) -> Iterator[bytes]:
    """Yield the object's bytes from `start` to its planned end."""
    store = store_at(planned.uri)
    for offset in range(start, planned.size, BLOCK):
        yield store.read_range(planned.key, offset, min(BLOCK, planned.size - offset))


@contextmanager
def unchanged(planned: PlannedObject) -> Iterator[None]:
    """Read the object inside; afterwards, also after a failure, it must still be the planned one.

    Raises:
        SourceChanged: It has another etag or is gone.
    """
    try:
        yield
    except (BadInput, ValueError, OSError) as fault:
        _check(planned)
        if isinstance(fault, BadInput):
            raise
        raise BadInput(object_uri(planned), None, str(fault)) from fault
    except NotFound:
        _check(planned)
        raise
    _check(planned)


def _check(planned: PlannedObject) -> None:
    try:
        found = store_at(planned.uri).stat(planned.key)
    except NotFound as gone:
        raise SourceChanged(_changed(planned, "it is gone")) from gone
    if (found.etag, found.size) != (planned.etag, planned.size):
        raise SourceChanged(_changed(planned, f"it has etag {found.etag} and {found.size} bytes"))


def _changed(planned: PlannedObject, found: str) -> str:
    return (
        f"{object_uri(planned)}: planned with etag {planned.etag} and {planned.size} bytes, now {found}; "
        "it changed while the data set was prepared: start again, so that a new plan is made"
    )


def open_object(planned: PlannedObject) -> RangeFile:
    """The object as a seekable file, for pyarrow."""
    return RangeFile(store_at(planned.uri), planned.key, planned.size)
