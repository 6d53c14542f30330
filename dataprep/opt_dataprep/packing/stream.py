"""The stream of one epoch: part after part, each as many times as its weight says, documents end to end.

A segment is one pass over one part. The stream is never written; segments are read where they are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from opt_dataprep.packing.blocks import Span
from opt_dataprep.packing.documents import Documents, load_documents, load_tokens
from opt_dataprep.packing.select_stage import held_out_rows, times
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import facts


@dataclass(frozen=True)
class Segment:
    """One pass over one part: where it lies in the stream, in tokens."""

    part: int
    round: int
    begin: int
    end: int


def segments(preparation: Preparation) -> list[Segment]:
    """All segments with tokens in them, in the order of the stream."""
    (fact,) = facts(preparation, "select")
    named = [(p, r, n) for p, passes in enumerate(fact["segments"]) for r, n in enumerate(passes) if n]
    ends = [*accumulate(n for _, _, n in named)]
    return [Segment(p, r, end - n, end) for (p, r, n), end in zip(named, ends, strict=True)]


def read_segment(preparation: Preparation, segment: Segment, most: int | None = None) -> Span:
    """Return the segment's documents, or the first of them that hold `most` tokens."""
    documents = load_documents(preparation, segment.part)
    counts = times(preparation, segment.part, documents, held_out_rows(preparation, segment.part))
    rows = np.flatnonzero(counts > segment.round)
    ends = np.cumsum(documents.tokens[rows], dtype=np.int64)
    if most is not None:
        rows = rows[: int(np.searchsorted(ends, most)) + 1]
    return span_of(preparation, segment.part, documents, rows)


def span_of(preparation: Preparation, part: int, documents: Documents, rows: NDArray[np.int64]) -> Span:
    """Return some documents of a part, end to end."""
    bounds = documents.starts
    low, high = (int(bounds[rows[0]]), int(bounds[rows[-1] + 1])) if len(rows) else (0, 0)
    tokens = load_tokens(preparation, part, low, high)
    counts = documents.tokens[rows].astype(np.int64)
    if int(counts.sum()) != high - low:
        keep = np.zeros(len(documents.tokens), bool)
        keep[rows] = True
        within = slice(int(rows[0]), int(rows[-1]) + 1)
        tokens = tokens[np.repeat(keep[within], documents.tokens[within])]
    slices = preparation.plan.parts[part].slices
    objects = np.array([piece.object for piece in slices], np.uint32)
    return Span(
        tokens=tokens,
        starts=np.cumsum(counts) - counts,
        object=objects[documents.slice[rows]],
        position=documents.position[rows],
        length=documents.length[rows],
    )


def join(spans: list[Span]) -> Span:
    """Spans end to end."""
    shifts = [0, *accumulate(len(span.tokens) for span in spans)]
    return Span(
        tokens=np.concatenate([span.tokens for span in spans]),
        starts=np.concatenate([span.starts + shift for span, shift in zip(spans, shifts, strict=False)]),
        object=np.concatenate([span.object for span in spans]),
        position=np.concatenate([span.position for span in spans]),
        length=np.concatenate([span.length for span in spans]),
    )
