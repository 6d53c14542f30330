"""One part, read: each slice by the reader of its framing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from opt_api.documents.dataprep import DataprepPlan, Framing, Part, PlannedObject
from opt_dataprep.sources.columnar import read_arrow, read_parquet
from opt_dataprep.sources.document import Rejected, SourceDocument
from opt_dataprep.sources.jsonl import read_jsonl
from opt_dataprep.sources.objects import unchanged
from opt_dataprep.sources.text import read_text

Reader = Callable[[PlannedObject, int, int, int, str, int], Iterator[SourceDocument | Rejected]]
"""From (object, number of the slice, start, end, text field, most bytes of a document) to documents."""

READERS: dict[Framing, Reader] = {
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "text": read_text,
}


def read_part(plan: DataprepPlan, part: Part) -> Iterator[SourceDocument | Rejected]:
    """Yield the raw documents of a part in order.

    Raises:
        BadInput: An object is damaged; the message names it and the place.
        SourceChanged: An object is not the planned one.
        StoreError: The store failed.
    """
    sources = plan.data.sources or ()
    field, limit = sources[part.source].text_field, plan.data.quality.max_document_bytes
    for number, piece in enumerate(part.slices):
        planned = plan.objects[piece.object]
        with unchanged(planned):
            yield from READERS[planned.framing](planned, number, piece.start, piece.end, field, limit)
