"""From a directory to a running engine."""

from __future__ import annotations

from pathlib import Path

import psutil
import structlog
import torch

from opt_api.architecture import Architecture
from opt_model.exchange import Weights
from opt_serving.compute.matrices import LoadedWeights
from opt_serving.compute.native_computer import NativeComputer
from opt_serving.compute.passes import Computer
from opt_serving.compute.torch_computer import TorchComputer
from opt_serving.engine.engine import Engine
from opt_serving.kernels.build import KernelUnavailable
from opt_serving.settings import PAGE, EngineSettings

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.int8}
_FREE_SHARE = 0.25
"""Share of the free memory that keys and values take by default at most."""
_log = structlog.get_logger("opt_serving.engine")


class BrokenModel(ValueError):  # noqa: N818
    """A directory that is no servable OPT; the message says what is wrong with which file."""


def open_engine(folder: Path, settings: EngineSettings) -> Engine:
    """Load the model of a Hugging Face OPT directory and start its engine.

    Raises:
        BrokenModel: The directory is not a whole OPT model.
        ValueError: The settings do not fit the model or the machine.
    """
    try:
        weights = Weights.open(folder)
    except Exception as fault:
        raise BrokenModel(f"{folder}: {fault}") from fault
    shape = weights.shape
    longest = min(settings.max_sequence_length or shape.max_positions, shape.max_positions)
    cache_dtype = _cache_dtype(settings)
    pages = _pages(settings, shape, longest, cache_dtype)
    torch.set_num_threads(settings.threads)
    computer = _computer(LoadedWeights(weights, _DTYPES[settings.weights]), pages, cache_dtype, settings)
    _log.info("model loaded", folder=str(folder), computer=computer.name, weights=settings.weights, pages=pages)
    return Engine(
        computer, pages=pages, slots=settings.max_sequences, longest=longest, chunk=settings.prefill_chunk_tokens
    )


def _computer(weights: LoadedWeights, pages: int, cache_dtype: torch.dtype, settings: EngineSettings) -> Computer:
    if settings.device == "cpu" and settings.kernels != "no":
        try:
            return NativeComputer(weights, pages, cache_dtype, settings.threads)
        except KernelUnavailable as fault:
            if settings.kernels == "yes":
                raise ValueError(f"kernels: {fault}") from fault
            _log.warning("no compiled kernels, torch computes instead (slower)", reason=str(fault))
    return TorchComputer(weights, pages, cache_dtype, settings.device)


def _cache_dtype(settings: EngineSettings) -> torch.dtype:
    if settings.weights == "float16":
        if settings.device == "cpu":
            raise ValueError("weights: found float16; on a cpu allowed are float32, bfloat16 and int8")
        return torch.float16
    return torch.bfloat16 if settings.weights == "bfloat16" else torch.float32


def _pages(settings: EngineSettings, shape: Architecture, longest: int, cache_dtype: torch.dtype) -> int:
    page_bytes = PAGE * shape.layers * 2 * shape.hidden_size * cache_dtype.itemsize
    each = -(-longest // PAGE)
    if settings.kv_cache_bytes is None:
        room = int(_free_bytes(settings.device) * _FREE_SHARE) // page_bytes
        return max(each, min(settings.max_sequences * each, room))
    if (pages := settings.kv_cache_bytes // page_bytes) < 1:
        raise ValueError(f"kv_cache_bytes: found {settings.kv_cache_bytes}; one page takes {page_bytes}")
    return pages


def _free_bytes(device: str) -> int:
    if device == "cpu":
        return psutil.virtual_memory().available
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)
