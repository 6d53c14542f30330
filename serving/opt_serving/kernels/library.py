"""The compiled kernels as Python calls: structures as in `opt.cpp`, and what keeps their memory alive."""

from __future__ import annotations

import ctypes as c
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from opt_model import native

SOURCES = native.Sources(
    "opt",
    Path(__file__).parent,
    ("opt.cpp", "tiled_attention.h", "attention.h", "rows.h", "tiles.h", "linear.h", "lanes.h", "weights.h"),
    abi=2,
)
KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}
STORED = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 3}
"""Formats of files, as `weights.h` numbers them."""


class CLinear(c.Structure):
    """`Linear`: a matrix [n, k] as it lies in memory."""

    _fields_ = (
        ("weight", c.c_void_p),
        ("bias", c.c_void_p),
        ("scale", c.c_void_p),
        ("shift", c.c_void_p),
        ("n", c.c_int64),
        ("k", c.c_int64),
        ("kind", c.c_int32),
    )


class CStored(c.Structure):
    """`Stored`: a matrix [rows, width] of a file."""

    _fields_ = (
        ("numbers", c.c_void_p),
        *((name, c.c_int64) for name in ("rows", "width", "stride")),
        ("format", c.c_int32),
    )


class CNorm(c.Structure):
    """`Norm`."""

    _fields_ = (("weight", c.c_void_p), ("bias", c.c_void_p))


class CBlock(c.Structure):
    """`Block`."""

    _fields_ = (
        *((name, CLinear) for name in ("q", "k", "v", "out", "fc1", "fc2")),
        ("attention_norm", CNorm),
        ("final_norm", CNorm),
    )


class CModel(c.Structure):
    """`Model`."""

    _fields_ = (
        *((name, c.c_int64) for name in ("layers", "heads", "hidden", "head_size", "position_offset")),
        *((name, c.c_int32) for name in ("norm_first", "cache_kind", "threads", "has_projections")),
        ("blocks", c.POINTER(CBlock)),
        *((name, CLinear) for name in ("embed", "positions", "project_in", "project_out")),
        ("final_norm", CNorm),
        ("pool", c.c_void_p),
    )


class CPass(c.Structure):
    """`Pass`."""

    _fields_ = (
        ("count", c.c_int64),
        ("table_width", c.c_int64),
        *((name, c.c_void_p) for name in ("tokens", "position", "sequence", "tables")),
    )


@dataclass(frozen=True)
class Matrix:
    """A weight matrix [n, k] in float32, bfloat16, or int8 with a scale for each row."""

    weight: Tensor
    bias: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None
    """int8: 128 x the sum of each row, int32; takes back what makes the inputs unsigned."""
    mapped: bool = False
    """It lies in a file."""

    def c(self) -> CLinear:
        """The structure; its memory is this object's."""
        n, k = self.weight.shape
        parts = (self.weight, self.bias, self.scale, self.shift)
        return CLinear(*(None if part is None else part.data_ptr() for part in parts), n, k, KINDS[self.weight.dtype])


@cache
def load(level: str | None = None) -> Any:
    """The loaded library.

    Raises:
        opt_model.native.KernelUnavailable: There is none for this machine.
    """
    loaded = native.load(SOURCES, level)
    pointer = c.c_void_p
    loaded.opt_forward.argtypes = (pointer, pointer, c.c_int64, pointer, pointer)
    loaded.opt_largest.argtypes = (pointer, c.c_int64, c.c_int64, c.c_int64, pointer)
    loaded.opt_attention.argtypes = (pointer, c.c_int64, pointer, pointer, pointer, pointer, pointer)
    loaded.opt_linear.argtypes = (pointer, c.c_int64, pointer, pointer, c.c_int32, c.c_int32)
    loaded.opt_convert.argtypes = (pointer, pointer, c.c_int32, c.c_int32)
    loaded.opt_quantise.argtypes = (pointer, pointer, pointer, pointer, c.c_int32)
    calls = (loaded.opt_largest, loaded.opt_attention, loaded.opt_linear, loaded.opt_convert, loaded.opt_quantise)
    for call in calls:
        call.restype = None
    loaded.opt_forward.restype = c.c_int64
    return loaded


def linear(matrix: Matrix, x_MK: Tensor, *, threads: int, relu: bool = False, level: str | None = None) -> Tensor:
    """X W^T + b, float32 in and out, [M, K] -> [M, N]."""
    x_MK = x_MK.contiguous()
    y_MN = torch.empty(x_MK.shape[0], matrix.weight.shape[0])
    call = load(level).opt_linear
    call(c.byref(matrix.c()), x_MK.shape[0], x_MK.data_ptr(), y_MN.data_ptr(), int(relu), threads)
    return y_MN


def largest(x_RV: Tensor, *, level: str | None = None) -> list[int]:
    """The place of each row's largest number, the first of equal ones."""
    rows, width = x_RV.shape
    stride, beside = x_RV.stride()
    assert beside == 1
    places = (c.c_int64 * rows)()
    load(level).opt_largest(x_RV.data_ptr(), rows, stride, width, places)
    return list(places)


def convert(weight_NK: Tensor, to_NK: Tensor, *, level: str | None = None) -> None:
    """Put a matrix of a file into float32 or bfloat16, as `copy_` does."""
    stored, threads = _stored(weight_NK), torch.get_num_threads()
    load(level).opt_convert(c.byref(stored), to_NK.data_ptr(), KINDS[to_NK.dtype], threads)


def quantise(weight_NK: Tensor, into: Matrix, *, level: str | None = None) -> None:
    """Put a matrix of a file into an int8 one, as `compute.matrices.quantise` does."""
    assert into.scale is not None
    assert into.shift is not None
    stored, threads = _stored(weight_NK), torch.get_num_threads()
    parts = (part.data_ptr() for part in (into.weight, into.scale, into.shift))
    load(level).opt_quantise(c.byref(stored), *parts, threads)


def _stored(weight_NK: Tensor) -> CStored:
    assert weight_NK.stride(1) == 1
    return CStored(weight_NK.data_ptr(), *weight_NK.shape, weight_NK.stride(0), STORED[weight_NK.dtype])


def address(array: NDArray[Any]) -> int:
    """Where an array's numbers begin."""
    return int(array.ctypes.data)
