"""From a directory to a running engine."""
# ruff: noqa: PLC0415 - torch is imported where it is needed only; see `computers`

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import structlog

from opt_api.architecture import Architecture
from opt_model.exchange.reader import Weights
from opt_model.memory import memory_available
from opt_serving.compute.passes import Computer
from opt_serving.engine.computers import BrokenModel, cache_dtype, make_computer, open_weights
from opt_serving.engine.engine import Engine
from opt_serving.settings import PAGE, EngineSettings

__all__ = ["BrokenModel", "open_engine"]
_FREE_SHARE = 0.25
"""Share of the free memory that keys and values take by default at most."""
_log = structlog.get_logger("opt_serving.engine")


def open_engine(folder: Path, settings: EngineSettings) -> Engine:
    """Load the model of a Hugging Face OPT directory and start its engine.

    Raises:
        BrokenModel: The directory is not a whole OPT model.
        ValueError: The settings do not fit the model or the machine.
    """
    weights = open_weights(folder)
    shape = weights.shape
    longest = min(settings.max_sequence_length or shape.max_positions, shape.max_positions)
    pages = _pages(settings, shape, longest, cache_dtype(settings))
    computer = _computer(weights, pages, settings)
    _log.info("model loaded", folder=str(folder), computer=computer.name, weights=settings.weights, pages=pages)
    return Engine(
        computer, pages=pages, slots=settings.max_sequences, longest=longest,
        chunk=settings.prefill_chunk_tokens, chunk_s=settings.prefill_chunk_seconds,
    )  # fmt: skip


def _computer(weights: Weights, pages: int, settings: EngineSettings) -> Computer:
    if settings.tensor_parallel == 1:
        return make_computer(weights, pages, settings)
    from opt_serving.parallel.leader import start_ranks

    return start_ranks(weights, pages, settings)


def _pages(settings: EngineSettings, shape: Architecture, longest: int, dtype: np.dtype[Any]) -> int:
    page_bytes = PAGE * shape.layers * 2 * shape.hidden_size * dtype.itemsize
    if settings.device != "cpu":  # each rank has its share of every page on a device of its own
        page_bytes //= settings.tensor_parallel
    each = -(-longest // PAGE)
    if settings.kv_cache_bytes is None:
        room = int(_free_bytes(settings.device) * _FREE_SHARE) // page_bytes
        return max(each, min(settings.max_sequences * each, room))
    if (pages := settings.kv_cache_bytes // page_bytes) < 1:
        raise ValueError(f"kv_cache_bytes: found {settings.kv_cache_bytes}; one page takes {page_bytes}")
    return pages


def _free_bytes(device: str) -> int:
    if device == "cpu":
        return memory_available()
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return int(free)
