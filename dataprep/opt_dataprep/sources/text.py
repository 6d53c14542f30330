"""Whole files as documents, gzip and zstd included."""

from __future__ import annotations

from collections.abc import Iterator

from opt_api.documents.dataprep import PlannedObject
from opt_dataprep.sources.compression import unpacked
from opt_dataprep.sources.document import Oversized, Rejected, SourceDocument
from opt_dataprep.sources.uris import store_at


def read_text(
    planned: PlannedObject, number: int, start: int, end: int, column: str, limit: int
) -> Iterator[SourceDocument | Rejected]:
    """Yield the object as one document; beyond `limit` bytes it is given up without being read to its end."""
    del start, end, column
    if planned.compression == "none" and planned.size > limit:
        sample = store_at(planned.uri).read_range(planned.key, 0, min(4096, planned.size))
        yield Oversized(number, 0, planned.size, sample)
        return
    pieces, total = [], 0
    for piece in unpacked(planned):
        pieces.append(piece)
        total += len(piece)
        if total > limit:
            yield Oversized(number, 0, total, pieces[0][:4096])
            return
    yield SourceDocument(number, 0, total, b"".join(pieces))
