"""Engines of a directory, asked directly."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from collections.abc import Sequence as Several
from contextlib import contextmanager
from pathlib import Path

from opt_serving.engine import Engine, Sequence, open_engine
from opt_serving.engine.engine import Progress
from opt_serving.settings import EngineSettings


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
