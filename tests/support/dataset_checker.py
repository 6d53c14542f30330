"""An independent reader of finished data sets: it shares no code with what writes them."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa


@dataclass
class Checked:
    """What the checker found.

    Attributes:
        manifest: As plain JSON.
        train, validation: (object URI, position) to the documents' ids there, one list a copy; the last one may be cut.
        tokens: All blocks of the train split in order.
    """

    manifest: dict
    train: dict[tuple[str, int], list[int]]
    validation: dict[tuple[str, int], list[int]]
    tokens: np.ndarray


def folder_of(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path)).parent


def check(uri: str) -> Checked:
    """Verify every object, the arithmetic of the manifest, and put the documents together again."""
    folder = folder_of(uri)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for entry in entries(manifest):
        data = (folder / entry["key"]).read_bytes()
        assert len(data) == entry["size"], entry
        assert "sha256:" + hashlib.sha256(data).hexdigest() == entry["digest"], entry
    for counts in manifest["counts"]:
        dropped = sum(counts["dropped"].values())
        assert counts["documentsRead"] == counts["documentsKept"] + dropped, counts
    parts = defaultdict(int)
    plan = json.loads((folder / manifest["plan"]["key"]).read_bytes())
    for part in plan["parts"]:
        for piece in part["slices"]:
            parts[piece["object"]] += 1
    assert [s["parts"] for s in manifest["sources"]] == [parts[i] for i in range(len(manifest["sources"]))]
    train, blocks = splits(folder, manifest, "train")
    validation, _ = splits(folder, manifest, "validation")
    assert len(blocks) == manifest["trainBlocks"]
    wanted = sum(c["tokensTrain"] for c in manifest["counts"])
    assert len(blocks) == wanted // manifest["tokensPerBlock"], "the last, partial block and no other is left out"
    assert sum(map(len, validation.values())) == sum(c["tokensValidation"] for c in manifest["counts"])
    assert not set(train) & set(validation), "a held-out document is trained on"
    return Checked(manifest, train, validation, blocks)


def entries(manifest: dict) -> list[dict]:
    tokenizer = manifest["tokenizer"]
    return [
        *manifest["shards"],
        *manifest.get("exclusions", []),
        tokenizer["vocab"],
        tokenizer["merges"],
        manifest["plan"],
        manifest["report"],
    ]


def splits(folder: Path, manifest: dict, split: str) -> tuple[dict[tuple[str, int], list[int]], np.ndarray]:
    pieces: dict[tuple[str, int], dict[int, np.ndarray]] = defaultdict(dict)
    blocks, ends = [], defaultdict(int)
    width = manifest["tokensPerBlock"]
    for shard in (s for s in manifest["shards"] if s["split"] == split):
        group = shard.get("source")
        assert shard["firstBlock"] == ends[group], "shards of a split follow one another"
        ends[group] += shard["blocks"]
        with pa.memory_map(str(folder / shard["key"])) as source:
            reader = pa.ipc.open_file(source)
            assert reader.num_record_batches == 1
            batch = reader.get_batch(0)
            metadata = reader.schema.metadata
            rows = batch.column("tokens").flatten().to_numpy(zero_copy_only=True).reshape(-1, width)
            assert len(rows) == shard["blocks"]
            assert int(metadata[b"opt.tokens_per_block"]) == width == manifest["sequenceLength"] + 1
            for row, documents in zip(rows, batch.column("documents").to_pylist(), strict=True):
                place(pieces, manifest, row.copy(), documents, group)
            blocks.append(rows.copy())
    return {key: assemble(found) for key, found in pieces.items()}, np.concatenate(blocks or [np.zeros((0, width))])


def place(pieces, manifest: dict, row: np.ndarray, documents: list[dict], group: str | None) -> None:
    starts = [d["start"] for d in documents]
    assert starts == sorted(starts)
    assert starts[0] == 0, "a block begins with a document or in one"
    for document, end in zip(documents, [*starts[1:], len(row)], strict=True):
        tokens = row[document["start"] : end]
        if group is not None and end == len(row):
            tokens = tokens[: int(np.flatnonzero(tokens == 2)[-1]) + 1] if (tokens[-1] == 1) else tokens
        source = manifest["sources"][document["object"]]
        assert group in (None, source["source"])
        key = (source["uri"], document["position"])
        known = pieces[key].setdefault(document["skipped"], tokens)
        assert np.array_equal(known[: len(tokens)], tokens[: len(known)]), "copies of a document differ"
        if len(tokens) > len(known):
            pieces[key][document["skipped"]] = tokens


def assemble(found: dict[int, np.ndarray]) -> list[int]:
    tokens: list[int] = []
    for skipped, piece in sorted(found.items()):
        assert skipped <= len(tokens), "a piece of a document is missing"
        tokens[skipped:] = [*piece.tolist()] if skipped + len(piece) >= len(tokens) else tokens[skipped:]
    return tokens


class Decoder:
    """From ids back to text, by vocab.json alone."""

    def __init__(self, vocab: Path) -> None:
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        characters = {chr(b): b for b in printable}
        others = (b for b in range(256) if b not in printable)
        characters |= {chr(256 + i): b for i, b in enumerate(others)}
        ids = json.loads(vocab.read_bytes())
        self._bytes = {
            i: bytes(characters[c] for c in token) for token, i in ids.items() if all(c in characters for c in token)
        }

    def text(self, tokens: list[int]) -> str:
        """Text of one document; its last id is </s>."""
        assert tokens[-1] == 2
        assert 2 not in tokens[:-1], "only the end of a document is </s>"
        return b"".join(self._bytes[i] for i in tokens[:-1]).decode()
