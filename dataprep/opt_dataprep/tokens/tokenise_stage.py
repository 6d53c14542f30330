"""Stage `tokenise`: a part's surviving documents as ids, each right-stripped and closed with </s>."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from opt_dataprep.dedup.drops import KINDS, REASONS, dropped_rows, drops_digest
from opt_dataprep.steps.documents import read_texts
from opt_dataprep.steps.exclusions import EXCLUDED, Exclusions, to_ipc
from opt_dataprep.tokens.encoders import FastEncoder, ReferenceEncoder, check_agreement
from opt_dataprep.tokens.tokenizer_stage import load_vocabulary
from opt_dataprep.tokens.vocabulary import END_OF_DOCUMENT
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import commits_of, result_digest, results_digest
from opt_dataprep.work.scratch import anonymous_file
from opt_dataprep.work.stage import Stage, Task

TOKENS, DOCUMENTS = "tokens.bin", "documents.arrow"
ORACLE_SHARE = 0.01
"""Share of documents that are encoded by the reference too, chosen by digest; and at least one of each part."""
SCHEMA = pa.schema(
    [
        pa.field("tokens", pa.uint32(), nullable=False),
        pa.field("bytes", pa.uint32(), nullable=False),
        pa.field("hash", pa.uint64(), nullable=False),
        pa.field("slice", pa.uint32(), nullable=False),
        pa.field("position", pa.uint64(), nullable=False),
        pa.field("length", pa.uint64(), nullable=False),
    ]
)
"""One row a document: its tokens, </s> included, its text in bytes, half its digest, and its place in the source."""
_COLUMNS = ["slice", "position", "length", "bytes", "digest", "text"]


def _inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    return {
        "read": result_digest(preparation, "read", index),
        "drops": drops_digest(preparation, index),
        "tokenizer": results_digest(preparation, "tokenizer"),
        "oracle": ORACLE_SHARE,
    }


_encoders: dict[str, tuple[FastEncoder, ReferenceEncoder]] = {}
"""Of the last vocabulary used: a worker does many parts with one."""


def encoders(preparation: Preparation) -> tuple[FastEncoder, ReferenceEncoder]:
    """Both encoders of the preparation's vocabulary."""
    identity = results_digest(preparation, "tokenizer")
    if identity not in _encoders:
        vocabulary = load_vocabulary(preparation)
        _encoders.clear()
        _encoders[identity] = FastEncoder(vocabulary), ReferenceEncoder(vocabulary)
    return _encoders[identity]


def _run(task: Task) -> dict[str, Any]:
    fast, reference = encoders(task.preparation)
    exclusions = Exclusions()
    rows: list[tuple[int, ...]] = []
    total = size = checked = 0
    end = np.array([END_OF_DOCUMENT], np.uint16)
    with anonymous_file() as (file, path):
        for found in _survivors(task.preparation, task.index, exclusions):
            ids = fast.encode(found.text)
            if not rows or found.hash < ORACLE_SHARE * 2.0**64:
                check_agreement(found.text, ids, reference.encode(found.text))
                checked += 1
            file.write(ids.data)
            file.write(end.data)
            rows.append((len(ids) + 1, found.bytes, found.hash, *found.place))
            total += len(ids) + 1
            size += found.bytes
        file.flush()
        task.emit(TOKENS, path)
    columns: list[Any] = list(zip(*rows, strict=True)) or [() for _ in SCHEMA]
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
    task.emit(DOCUMENTS, [to_ipc(table)])
    task.emit(EXCLUDED, [exclusions.to_arrow()])
    lengths = Counter(str(tokens.bit_length() - 1) for tokens, *_ in rows)
    return {
        "documents": len(rows),
        "tokens": total,
        "bytes": size,
        "checked": checked,
        "lengths": dict(sorted(lengths.items())),
    }


@dataclass(frozen=True, slots=True)
class _Found:
    """A kept document: its text without blanks at the end, half its digest, and (slice, position, length)."""

    text: str
    bytes: int
    hash: int
    place: tuple[int, int, int]


def _survivors(preparation: Preparation, index: int, exclusions: Exclusions) -> Iterator[_Found]:
    """Yield the kept documents of a part; samples of the dropped ones go to `exclusions`."""
    dropped = dropped_rows(preparation, index)
    reasons = {int(row): REASONS[KINDS[kind]] for row, kind in dropped.tolist()}
    for first, batch in read_texts(preparation, commits_of(preparation, "read")[index], _COLUMNS):
        columns = batch.to_pydict()
        for at, text in enumerate(columns["text"]):
            place = (columns["slice"][at], columns["position"][at], columns["length"][at])
            if first + at in reasons:
                exclusions.add(*place, reasons[first + at], text)
            else:
                hashed = int.from_bytes(columns["digest"][at][8:], "big")
                yield _Found(text.rstrip(), columns["bytes"][at], hashed, place)


TOKENISE = Stage("tokenise", "tokens", lambda preparation: len(preparation.plan.parts), _inputs, _run)
