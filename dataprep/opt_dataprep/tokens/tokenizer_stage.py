"""Stage `tokenizer`: the vocabulary, fetched and checked, or learned from the documents that are left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from opt_api.training.data import TokenizerFiles
from opt_dataprep.dedup.drops import dropped_rows
from opt_dataprep.errors import BadInput
from opt_dataprep.sources.uris import split_uri, store_at
from opt_dataprep.steps.documents import read_texts
from opt_dataprep.tokens.training import train_vocabulary
from opt_dataprep.tokens.vocabulary import Vocabulary, parse_vocabulary, write_vocabulary
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import commits_of, facts, read, results_digest
from opt_dataprep.work.stage import Stage, Task
from opt_store import NotFound, digest_of

VOCAB, MERGES = "vocab.json", "merges.txt"


def _inputs(preparation: Preparation, index: int) -> dict[str, Any]:
    tokenizer = preparation.plan.data.tokenizer
    assert tokenizer is not None
    if tokenizer.files is not None:
        return {"vocab": tokenizer.files.vocab_digest, "merges": tokenizer.files.merges_digest}
    return {
        "train": tokenizer.train and tokenizer.train.wire(),
        "read": results_digest(preparation, "read"),
        "drops": results_digest(preparation, "drops"),
    }


def _run(task: Task) -> dict[str, Any]:
    tokenizer = task.preparation.plan.data.tokenizer
    assert tokenizer is not None
    if tokenizer.files is not None:
        vocab, merges = _fetch(tokenizer.files)
        vocabulary = parse_vocabulary(vocab, merges, (tokenizer.files.vocab_uri, tokenizer.files.merges_uri))
        rows = vocabulary.rows
    else:
        assert tokenizer.train is not None
        rows = tokenizer.train.vocabulary_size
        vocabulary = train_vocabulary(sample(task.preparation, tokenizer.train.sample_bytes), rows)
        vocab, merges = write_vocabulary(vocabulary)
    task.emit(VOCAB, [vocab])
    task.emit(MERGES, [merges])
    return {"rows": rows, "tokens": len(vocabulary.ids), "merges": len(vocabulary.merges)}


def pinned(files: TokenizerFiles) -> TokenizerFiles:
    """The files with their digests, which then name the vocabulary; read before any work starts.

    Raises:
        BadInput: One is missing, has another digest than the spec says, or they are no vocabulary.
        StoreError: Their store cannot be read.
    """
    vocab, merges = _fetch(files)
    parse_vocabulary(vocab, merges, (files.vocab_uri, files.merges_uri))
    return files.model_copy(update={"vocab_digest": digest_of(vocab), "merges_digest": digest_of(merges)})


def _fetch(files: TokenizerFiles) -> tuple[bytes, bytes]:
    fetched = []
    for field, uri, wanted in (
        ("vocabUri", files.vocab_uri, files.vocab_digest),
        ("mergesUri", files.merges_uri, files.merges_digest),
    ):
        store, key = split_uri(uri)
        try:
            data = store_at(store).get(key)
        except NotFound as fault:
            raise BadInput(uri, None, f"there is no such object; correct data.tokenizer.files.{field}") from fault
        if wanted is not None and digest_of(data) != wanted:
            raise BadInput(uri, None, f"digest is {digest_of(data)}, wanted is {wanted}; correct the file or the spec")
        fetched.append(data)
    return fetched[0], fetched[1]


def sample(preparation: Preparation, most: int) -> Iterator[str]:
    """Yield documents that survived, in order: all, or those whose digest falls into the share that `most` bytes is."""
    total = sum(fact["bytesKept"] for fact in facts(preparation, "read"))
    bound = min(1.0, most / max(1, total)) * 2.0**64
    for part, commit in enumerate(commits_of(preparation, "read")):
        dropped = dropped_rows(preparation, part)["row"]
        for first, batch in read_texts(preparation, commit, ["digest", "text"]):
            gone = np.isin(np.arange(first, first + batch.num_rows), dropped)
            for out, digest, text in zip(gone, batch["digest"], batch["text"], strict=True):
                if not out and int.from_bytes(digest.as_py()[8:], "big") < bound:
                    yield text.as_py()


def load_vocabulary(preparation: Preparation) -> Vocabulary:
    """The vocabulary that the stage left."""
    (commit,) = commits_of(preparation, "tokenizer")
    return parse_vocabulary(read(preparation, commit, VOCAB), read(preparation, commit, MERGES), (VOCAB, MERGES))


TOKENIZER = Stage("tokenizer", "vocabulary", lambda preparation: 1, _inputs, _run)
