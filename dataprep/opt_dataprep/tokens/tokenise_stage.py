"""Stage `tokenise`: a part's surviving documents as ids, each right-stripped and closed with </s>."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from opt_dataprep.dedup.drops import KINDS, REASONS, dropped_rows, drops_digest
from opt_dataprep.steps.documents import digest_halves, read_texts
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
_SAMPLE = ["slice", "position", "length", "text"]


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
    tables = [SCHEMA.empty_table()]
    checked = 0
    with anonymous_file() as (file, path):
        for batch in _survivors(task.preparation, task.index, exclusions):
            texts = pc.utf8_rtrim_whitespace(batch["text"])
            ids, bounds = fast.encode_column(texts)
            hashes = digest_halves(cast("list[bytes]", batch["digest"].to_pylist()))[1]
            for row in _sampled(hashes, first=not checked):
                text = texts[row].as_py()
                check_agreement(text, ids[bounds[row] : bounds[row + 1]], reference.encode(text))
                checked += 1
            file.write(np.insert(ids, bounds[1:], np.uint16(END_OF_DOCUMENT)).data)
            tables.append(_rows(batch, np.diff(bounds) + 1, hashes))
        file.flush()
        task.emit(TOKENS, path)
    table = pa.concat_tables(tables).combine_chunks()
    task.emit(DOCUMENTS, [to_ipc(table)])
    task.emit(EXCLUDED, [exclusions.to_arrow()])
    tokens = table["tokens"].to_numpy().astype(np.int64)
    lengths = np.bincount(np.frexp(tokens)[1])
    return {
        "documents": len(table),
        "tokens": int(tokens.sum()),
        "bytes": int(table["bytes"].to_numpy().astype(np.int64).sum()),
        "checked": checked,
        "lengths": {str(bits - 1): int(lengths[bits]) for bits in np.flatnonzero(lengths).tolist()},
    }


def _sampled(hashes: NDArray[np.uint64], *, first: bool) -> list[int]:
    """Rows whose encoding the reference checks."""
    chosen = hashes < np.uint64(int(ORACLE_SHARE * 2.0**64))
    if first:
        chosen[:1] = True
    return [int(row) for row in np.flatnonzero(chosen)]


def _rows(batch: pa.RecordBatch, tokens: NDArray[np.int64], hashes: NDArray[np.uint64]) -> pa.Table:
    columns: dict[str, Any] = {name: batch[name] for name in ("bytes", "slice", "position", "length")}
    columns |= {"tokens": pa.array(tokens.astype(np.uint32)), "hash": pa.array(hashes)}
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _survivors(preparation: Preparation, index: int, exclusions: Exclusions) -> Iterator[pa.RecordBatch]:
    """Yield the kept documents of a part; samples of the dropped ones go to `exclusions`."""
    dropped = dropped_rows(preparation, index)
    reasons = {int(row): REASONS[KINDS[kind]] for row, kind in dropped.tolist()}
    for first, batch in read_texts(preparation, commits_of(preparation, "read")[index], _COLUMNS):
        keep = np.ones(batch.num_rows, bool)
        for row in range(first, first + batch.num_rows):
            if row in reasons:
                keep[row - first] = False
                number, position, length, text = (batch[name][row - first].as_py() for name in _SAMPLE)
                exclusions.add(number, position, length, reasons[row], text)
        if keep.any():
            yield batch if keep.all() else batch.filter(pa.array(keep))


TOKENISE = Stage("tokenise", "tokens", lambda preparation: len(preparation.plan.parts), _inputs, _run)
