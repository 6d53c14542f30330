"""Whether a model directory is fit to be served: it loads, its logits are finite, its loss is known."""

from __future__ import annotations

import math
import queue
from collections.abc import Sequence as Several
from pathlib import Path
from tempfile import gettempdir

from opt_api.documents.manifests import CheckpointManifest, DatasetManifest
from opt_cli.stored_checkpoints import dataset_of
from opt_serving.engine import Engine, Sampling, Sequence, open_engine
from opt_serving.engine.engine import Progress
from opt_serving.settings import EngineSettings
from opt_serving.text.tokenizer import START
from opt_store import Store

GENERATED = 8
"""Tokens that every model has to generate."""


class Unfit(Exception):  # noqa: N818 - named by what it says
    """The model must not be served; the message says why."""


def held_out(store: Store, run: str, manifest: CheckpointManifest, count: int) -> list[list[int]]:
    """The first held-out sequences of the run's data set, as many of each source; always the same.

    Raises:
        opt_store.StoreError: The data set cannot be read.
    """
    from opt_trainer.data.shards import Blocks, ShardCache

    place = dataset_of(store, run, manifest, None)
    dataset = DatasetManifest.from_bytes(place.store.get(place.key))
    prefix = place.key.rpartition("/")[0]
    cache = ShardCache(place.store, f"{prefix}/" if prefix else "", Path(gettempdir()) / "opt-gate-shards")
    shards = [s for s in dataset.shards if s.split == "validation" and s.blocks]
    sources = sorted({s.source or "" for s in shards})
    found: list[list[int]] = []
    for source in sources:
        mine = Blocks(cache, [s for s in shards if (s.source or "") == source], dataset.tokens_per_block)
        share = range(min(len(mine), -(-count // len(sources))))
        found += [[int(t) for t in row] for row in mine.read(list(share))]
    return found[:count]


def loss_of(folder: Path, settings: EngineSettings, blocks: Several[Several[int]]) -> float | None:
    """Load a model, let it speak, and score sequences: nats per token, None where there are no sequences.

    Raises:
        Unfit: It cannot be loaded, or a logit is not finite.
    """
    try:
        engine = open_engine(folder, settings)
    except ValueError as fault:
        raise Unfit(f"it cannot be loaded: {fault}") from fault
    try:
        _speaks(engine)
        return _scored(engine, blocks) if blocks else None
    finally:
        engine.close()


def _speaks(engine: Engine) -> None:
    sequence = Sequence([START], Sampling(max_tokens=GENERATED, logprobs=0))
    tokens = _run(engine, [sequence])
    if not all(token is not None and math.isfinite(token) for token in tokens):
        raise Unfit(f"a logit is not finite within the first {GENERATED} tokens")


def _scored(engine: Engine, blocks: Several[Several[int]]) -> float:
    score = Sampling(max_tokens=0, prompt_logprobs=0)
    asked = [Sequence(list(block[: engine.longest]), score) for block in blocks]
    _run(engine, asked)
    found = [out.logprob for one in asked for out in one.prompt_out[1:]]
    if not found or not all(value is not None and math.isfinite(value) for value in found):
        raise Unfit("a log probability of a held-out token is not finite")
    return -math.fsum(value for value in found if value is not None) / len(found)


def _run(engine: Engine, sequences: Several[Sequence]) -> list[float | None]:
    """Until all have ended; log probabilities of what was generated."""
    box: queue.SimpleQueue[list[Progress]] = queue.SimpleQueue()
    for sequence in sequences:
        engine.submit(sequence, box.put)
    left, said = len(sequences), []
    while left:
        for progress in box.get():
            if progress.token is not None:
                said.append(progress.token.logprob)
            if progress.finish is not None:
                left -= 1
                if progress.finish == "error":
                    raise Unfit(f"it cannot be computed: {progress.sequence.error}")
    return said
