"""Engines of a directory, asked directly."""

from __future__ import annotations

import queue
import random
from collections.abc import Iterator
from collections.abc import Sequence as Several
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from opt_serving.engine import Engine, Sequence, open_engine
from opt_serving.engine.engine import Progress
from opt_serving.settings import EngineSettings


def prompts(count: int, longest: int, vocabulary: int, seed: int = 0) -> list[list[int]]:
    """Random prompts that begin as OPT's tokenizer begins them."""
    rng = random.Random(seed)
    return [[2, *(rng.randrange(4, vocabulary) for _ in range(rng.randrange(1, longest)))] for _ in range(count)]


@torch.inference_mode()
def greedy(theirs: Any, prompt: list[int], count: int) -> list[int]:
    """What transformers' model goes on with."""
    made = theirs.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=count, do_sample=False,
        eos_token_id=None, pad_token_id=1,
    )  # fmt: skip
    ids: list[int] = made[0, len(prompt) :].tolist()
    return ids


@contextmanager
def engine_of(folder: Path, **settings: object) -> Iterator[Engine]:
    """A small engine, closed at the end."""
    given = {"kv_cache_bytes": 60_000_000, "max_sequences": 8, "prefill_chunk_tokens": 64, **settings}
    engine = open_engine(folder, EngineSettings(**given))  # type: ignore[arg-type]
    try:
        yield engine
    finally:
        engine.close()


def run(engine: Engine, sequences: Several[Sequence]) -> list[Progress]:
    """Submit all at once and wait for all; returns everything that was told."""
    told: queue.Queue[list[Progress]] = queue.Queue()
    for sequence in sequences:
        engine.submit(sequence, told.put)
    return until_ended(told, len(sequences))


def until_ended(told: queue.Queue[list[Progress]], count: int) -> list[Progress]:
    """Everything that is told until so many sequences have ended."""
    found: list[Progress] = []
    while sum(progress.finish is not None for progress in found) < count:
        found += told.get(timeout=120)
    return found
