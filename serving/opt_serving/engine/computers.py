"""Which computer runs a model, or a rank's share of one, with which settings.

Torch is imported by those computers only that need it: not by the compiled kernels of a whole model, which begin to
serve a second sooner and with 200 MiB less for that.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from opt_model.exchange.reader import Weights
from opt_model.exchange.stored import BFLOAT16
from opt_model.native import KernelUnavailable
from opt_serving.compute.matrices import LoadedWeights
from opt_serving.compute.native_computer import NativeComputer
from opt_serving.compute.passes import Computer
from opt_serving.kernels import library
from opt_serving.settings import EngineSettings

if TYPE_CHECKING:
    from opt_serving.compute.group import Group

_DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32), "bfloat16": BFLOAT16, "float16": np.dtype(np.float16), "int8": np.dtype(np.int8),
}  # fmt: skip
_log = structlog.get_logger("opt_serving.engine")


class BrokenModel(ValueError):  # noqa: N818
    """A directory that is no servable OPT; the message says what is wrong with which file."""


def open_weights(folder: Path) -> Weights:
    """Check a Hugging Face OPT directory.

    Raises:
        BrokenModel: It is not a whole OPT model.
    """
    try:
        return Weights.open(folder)
    except Exception as fault:
        raise BrokenModel(f"{folder}: {fault}") from fault


def make_computer(weights: Weights, pages: int, settings: EngineSettings, group: Group | None = None) -> Computer:
    """Load weights, all of them or a rank's share, into what computes with them.

    Raises:
        ValueError: The settings do not fit the model or the machine.
    """
    loops = _loops(settings)
    if loops and settings.device == "cpu" and group is None:
        number, cache = _DTYPES[settings.weights], cache_dtype(settings)
        return NativeComputer(weights, number, pages, cache, loops, pretouch=settings.kv_cache_pretouch)
    return _with_torch(weights, pages, settings, group, loops)


def _with_torch(weights: Weights, pages: int, settings: EngineSettings, group: Group | None, loops: int) -> Computer:
    import torch

    from opt_serving.compute.group import Alone
    from opt_serving.compute.share_computer import ShareComputer
    from opt_serving.compute.torch_computer import TorchComputer

    torch.set_num_threads(settings.threads)
    cache, group = cache_dtype(settings), group or Alone()
    loaded = LoadedWeights(weights, _DTYPES[settings.weights], group.share, threads=loops)
    if loops and settings.device == "cpu":
        return ShareComputer(loaded, pages, cache, loops, group, pretouch=settings.kv_cache_pretouch)
    return TorchComputer(loaded, pages, getattr(torch, cache.name), settings.device, group)


def _loops(settings: EngineSettings) -> int:
    """Threads of the compiled kernels, which convert weights for any device; 0 where not asked for or not to be had."""
    if settings.kernels == "no":
        return 0
    try:
        library.load()
    except KernelUnavailable as fault:
        if settings.device != "cpu":
            return 0
        if settings.kernels == "yes":
            raise ValueError(f"kernels: {fault}") from fault
        _log.warning("no compiled kernels, torch computes instead (slower)", reason=str(fault))
        return 0
    return settings.threads


def cache_dtype(settings: EngineSettings) -> np.dtype[Any]:
    """Number format of keys and values: the weights'; bfloat16 for int8, which rounds twenty times as far by itself.

    Raises:
        ValueError: The device has none for these weights.
    """
    if settings.weights == "float16" and settings.device == "cpu":
        raise ValueError("weights: found float16; on a cpu allowed are float32, bfloat16 and int8")
    return BFLOAT16 if settings.weights == "int8" else _DTYPES[settings.weights]


def of_rank(settings: EngineSettings, rank: int) -> EngineSettings:
    """What one of several ranks is told: its share of the threads, and a device of its own."""
    kind, _, first = settings.device.partition(":")
    device = kind if kind == "cpu" else f"{kind}:{int(first or 0) + rank}"
    return dataclasses.replace(settings, device=device, threads=max(1, settings.threads // settings.tensor_parallel))
