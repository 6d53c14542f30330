"""A finished data set: its manifest, read and held against what the plan needs, before the first step."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from opt_api.documents.manifests import DatasetManifest
from opt_api.documents.plan import Plan
from opt_api.quantity import binary_quantity
from opt_store import Store, StoreError
from opt_trainer.data.shards import ROOM_SHARE, Blocks, ShardCache
from opt_trainer.errors import BadSpec

NOTE = "manifest.json"
"""File beside the shards with the manifest as it was last read."""


SURELY_ALL = 10
"""Blocks that a host reads for each shard, from which on it needs every shard but for one chance in 20,000 for each."""


class BadData(Exception):  # noqa: N818 - named as the exit cause it leads to
    """The data set cannot be trained on; the message has the two numbers that disagree."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set that fits the plan.

    Attributes:
        manifest: Of the data set.
        digest: Of the manifest, for lineage.
        cache: Its shards on local disk.
    """

    manifest: DatasetManifest
    digest: str
    cache: ShardCache

    def train(self) -> Blocks:
        """Training blocks."""
        shards = [s for s in self.manifest.shards if s.split == "train"]
        return Blocks(self.cache, shards, self.manifest.tokens_per_block)

    def tokenizer(self) -> Path:
        """Folder with the vocabulary's files under their Hugging Face names, fetched and checked.

        Raises:
            opt_store.StoreError: They cannot be had, or have another digest.
        """
        entry = self.manifest.tokenizer
        self.cache.side_file(entry.merges, "merges.txt")
        return self.cache.side_file(entry.vocab, "vocab.json").parent

    def validation(self) -> dict[str, Blocks]:
        """Held-out blocks by source."""
        held = [s for s in self.manifest.shards if s.split == "validation"]
        sources = sorted({s.source or "all" for s in held})
        width = self.manifest.tokens_per_block
        return {name: Blocks(self.cache, [s for s in held if (s.source or "all") == name], width) for name in sources}


def open_dataset(
    store: Store,
    manifest_key: str,
    folder: Path,
    plan: Plan,
    expect: str | None = None,
    *,
    again: bool = False,
    disk: int | None = None,
) -> Dataset:
    """Read a data set's manifest and check that the plan can train on it.

    Args:
        store: Where it lies.
        manifest_key: Key of its manifest; the shards' keys are relative to the folder of the manifest.
        folder: Local folder for shards, shared by the ranks of a host.
        plan: What will be trained.
        expect: Digest that the manifest must have.
        again: This run has opened it in this folder before; the manifest is then taken from there, if it is there.
        disk: Bytes of local disk that a host may fill; None where nothing but the disk bounds it.

    Raises:
        BadData: It is no manifest, has another digest, or does not fit the plan.
        BadSpec: It does not fit a host's disk.
        opt_store.StoreError: It cannot be read.
    """
    where = f"data set {manifest_key!r} in {store.url}"
    note = folder / NOTE
    data = note.read_bytes() if again and note.exists() else _read(store, manifest_key, where, expect)
    try:
        manifest = DatasetManifest.from_bytes(data)
    except ValidationError as problem:
        raise BadData(f"{where}: it is no data set manifest of a known version: {problem}") from problem
    problems = problems_of(manifest, plan)
    if problems:
        raise BadData(f"{where}: " + "; ".join(problems))
    if disk is not None and (problem_of_disk := _disk_problem(manifest, plan, disk)):
        raise BadSpec(f"{where}: {problem_of_disk}")
    prefix = manifest_key.rpartition("/")[0]
    room = None if disk is None else int(disk * ROOM_SHARE)
    cache = ShardCache(store, f"{prefix}/" if prefix else "", folder, room=room)
    if not again:
        _write_down(note, data)
    return Dataset(manifest, manifest.digest(), cache)


def problems_of(manifest: DatasetManifest, plan: Plan) -> list[str]:
    """What keeps the plan from training on the data set; each with both numbers."""
    vocabulary, rows = manifest.tokenizer.vocabulary_size, plan.architecture.vocabulary_size
    stored, wanted = manifest.tokens_per_block, plan.sequence_length + 1
    listed = sum(s.blocks for s in manifest.shards if s.split == "train")
    checks = (
        (
            stored != wanted,
            f"blocks hold {stored} tokens, sequenceLength {plan.sequence_length} needs {wanted}; prepare it again",
        ),
        (
            vocabulary > rows,
            f"the vocabulary has {vocabulary} entries, the model's embedding {rows} rows; set model.vocabularySize",
        ),
        (
            listed != manifest.train_blocks,
            f"the shards hold {listed} training blocks, the manifest says {manifest.train_blocks}; prepare it again",
        ),
        (
            manifest.train_blocks < 1,
            f"found {manifest.train_blocks} training blocks, at least 1 is needed; add text or shorten sequenceLength",
        ),
    )
    return [text for wrong, text in checks if wrong]


def _disk_problem(manifest: DatasetManifest, plan: Plan, disk: int) -> str | None:
    """Why the shards that a run comes to need do not fit a host; a short run may need few of them."""
    read = plan.recipe.total_steps * plan.recipe.batch_sequences / plan.layout.hosts
    needed = sum(shard.size for shard in manifest.shards)
    if read < SURELY_ALL * len(manifest.shards) or needed <= disk * ROOM_SHARE:
        return None
    return (
        f"its shards have {needed} bytes, of which a host needs all in {plan.recipe.total_steps} steps, and "
        f"pods.resources.ephemeralStorage is {disk}; raise it to {binary_quantity(int(needed / ROOM_SHARE) + 1)}"
    )


def _write_down(note: Path, data: bytes) -> None:
    fresh = note.with_suffix(f".{os.getpid()}")
    fresh.write_bytes(data)
    fresh.replace(note)


def _read(store: Store, key: str, where: str, expect: str | None) -> bytes:
    try:
        return store.get(key, expect)
    except StoreError as problem:
        if problem.transient:
            raise
        raise BadData(f"{where}: {problem}") from problem
