"""Stage `select`: which documents are held out, and where each part's tokens come to lie in the stream of an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from opt_dataprep.errors import BadInput
from opt_dataprep.packing.documents import HOLD_OUT, Documents, copies, draw, load_documents
from opt_dataprep.packing.hold_out import RECORD, HoldOut, quotas
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import commits_of, facts, read_range, results_digest
from opt_dataprep.work.stage import Stage, Task

HELD_OUT = "held-out.bin"
ROW = np.dtype("<u4")


def _inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    data = preparation.plan.data
    return {
        "tokens": results_digest(preparation, "tokenise"),
        "parts": [part.source for part in preparation.plan.parts],
        "weights": [source.weight for source in data.sources or ()],
        "validation": data.validation.wire(),
        "seed": data.seed,
        "tokensPerBlock": tokens_per_block(preparation),
    }


def tokens_per_block(preparation: Preparation) -> int:
    """Tokens stored per block: inputs and targets are the same tokens shifted by one (docs/decisions/0050)."""
    return preparation.plan.data.sequence_length + 1


def _run(task: Task) -> dict[str, Any]:
    preparation = task.preparation
    held = _held_out(preparation)
    task.emit(HELD_OUT, [np.concatenate([rows.astype(ROW) for rows in held]).tobytes()])
    segments, validation = [], []
    for part, rows in enumerate(held):
        documents = load_documents(preparation, part)
        segments.append(pass_tokens(documents, times(preparation, part, documents, rows)))
        validation.append([len(rows), int(documents.tokens[rows].sum()), int(documents.bytes[rows].sum())])
    total = sum(map(sum, segments))
    blocks = total // tokens_per_block(preparation)
    if not blocks:
        raise BadInput(
            "the data set",
            None,
            f"{total} tokens are left for training, one block takes {tokens_per_block(preparation)}: "
            "give more text, relax the rules or shorten sequenceLength",
        )
    return {
        "segments": segments,
        "validation": validation,
        "offsets": [0, *np.cumsum([len(rows) for rows in held]).tolist()],
        "trainBlocks": blocks,
    }


def _held_out(preparation: Preparation) -> list[NDArray[np.int64]]:
    """Rows held out of each part."""
    data, parts = preparation.plan.data, preparation.plan.parts
    found = facts(preparation, "tokenise")
    number = len(data.sources or ())
    documents, sizes = [0] * number, [0] * number
    for part, fact in zip(parts, found, strict=True):
        documents[part.source] += fact["documents"]
        sizes[part.source] += fact["bytes"]
    chosen = [HoldOut(q) for q in quotas(documents, sizes, data.validation.fraction, data.validation.max_bytes)]
    for index, part in enumerate(parts):
        chosen[part.source].add(_records(index, load_documents(preparation, index), data.seed))
    every = np.concatenate([c.chosen() for c in chosen])
    return [np.sort(every["row"][every["part"] == index]).astype(np.int64) for index in range(len(parts))]


def _records(part: int, documents: Documents, seed: int) -> NDArray[np.void]:
    records = np.zeros(len(documents.tokens), RECORD)
    records["draw"], records["part"] = draw(documents.hash, seed, HOLD_OUT), part
    records["row"], records["bytes"] = np.arange(len(records)), documents.bytes
    records["tokens"] = documents.tokens
    return records


def times(preparation: Preparation, part: int, documents: Documents, held: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each document of a part is in an epoch: its source's weight, and never if held out."""
    data = preparation.plan.data
    weight = (data.sources or ())[preparation.plan.parts[part].source].weight
    counts = copies(documents, weight, data.seed)
    counts[held] = 0
    return counts


def pass_tokens(documents: Documents, counts: NDArray[np.int64]) -> list[int]:
    """Tokens of the part in each pass over it: documents seen at least once, at least twice, and so on."""
    return [int(documents.tokens[counts > r].sum()) for r in range(int(counts.max(initial=0)))]


def held_out_rows(preparation: Preparation, part: int) -> NDArray[np.int64]:
    """Rows of a part that are held out, sorted."""
    (commit,) = commits_of(preparation, "select")
    begin, end = commit.facts["offsets"][part : part + 2]
    size = ROW.itemsize
    data = read_range(preparation, commit, HELD_OUT, begin * size, (end - begin) * size)
    return np.frombuffer(data, ROW).astype(np.int64)


SELECT = Stage("select", "hold-out and layout", lambda preparation: 1, _inputs, _run)
