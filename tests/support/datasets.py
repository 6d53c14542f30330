"""Small finished data sets, written as data preparation writes them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from opt_api.documents.manifests import DatasetManifest, Lineage, ObjectEntry, ShardEntry, SourceEntry, TokenizerEntry
from opt_dataprep.packing.blocks import batch_of, block_schema
from opt_store import Store, digest_of

NO_DIGEST = digest_of(b"")


def tokens_of_block(block: int, width: int, vocabulary: int, salt: int = 0) -> np.ndarray:
    """What block `block` holds, so that a reader can tell which block it got."""
    return np.random.default_rng([salt, block]).integers(4, vocabulary, width).astype(np.uint16)


def shard_bytes(rows: np.ndarray, batches: int = 1) -> bytes:
    """Every block holds two documents of source object 0, the first begun in the block before."""
    width = rows.shape[1]
    schema = block_schema(width)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        for numbers in np.array_split(np.arange(len(rows)), batches):
            places = [
                [
                    {"object": 0, "position": 100 * n, "length": 50, "start": 0, "skipped": 5},
                    {"object": 0, "position": 100 * n + 50, "length": 50, "start": width // 2, "skipped": 0},
                ]
                for n in numbers.tolist()
            ]
            documents = pa.array(places, type=schema.field("documents").type)
            writer.write_batch(batch_of(rows[numbers], documents, width))
    return sink.getvalue().to_pybytes()


def write_dataset(
    store: Store, prefix: str, *, train=(7, 5), held_out=None, sequence_length=16, vocabulary=1000
) -> DatasetManifest:
    """Write shards with the given numbers of blocks, and the manifest last."""
    held_out = {"manual": 3, "books": 2} if held_out is None else held_out
    width, shards = sequence_length + 1, []

    def put(name: str, count: int, first: int, split: str, source: str | None, salt: int) -> None:
        rows = np.stack([tokens_of_block(first + i, width, vocabulary, salt) for i in range(count)])
        data = shard_bytes(rows, batches=2 if name.endswith("1.arrow") else 1)
        store.put(f"{prefix}/{name}", data)
        shards.append(
            ShardEntry(
                key=name,
                size=len(data),
                digest=digest_of(data),
                split=split,
                source=source,
                blocks=count,
                first_block=first,
            )
        )

    for i, count in enumerate(train):
        put(f"train-{i}.arrow", count, sum(train[:i]), "train", None, 0)
    for salt, (source, count) in enumerate(held_out.items(), 1):
        put(f"validation-{source}.arrow", count, 0, "validation", source, salt)
    words = json.dumps({f"w{i}": i for i in range(vocabulary)}).encode()
    vocab, merges = (_put_object(store, prefix, *file) for file in (("v.json", words), ("m.txt", b"#version: 0.2")))
    manifest = DatasetManifest(
        sequence_length=sequence_length,
        tokens_per_block=width,
        seed=1,
        parameters=NO_DIGEST,
        tokenizer=TokenizerEntry(vocabulary_size=vocabulary, vocab=vocab, merges=merges),
        sources=(SourceEntry(source="manual", uri="file:///pages", etag="e", size=1, parts=1),),
        counts=(),
        train_blocks=sum(train),
        validation_blocks=sum(held_out.values()),
        shards=tuple(shards),
        lineage=Lineage(code_version="test"),
    )
    store.put(f"{prefix}/manifest.json", manifest.to_bytes())
    return manifest


def _put_object(store: Store, prefix: str, name: str, data: bytes) -> ObjectEntry:
    store.put(f"{prefix}/{name}", data)
    return ObjectEntry(key=name, size=len(data), digest=digest_of(data))
