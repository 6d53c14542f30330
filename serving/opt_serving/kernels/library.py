"""The compiled kernels as Python calls: structures as in `opt.cpp`, and what keeps their memory alive."""

from __future__ import annotations

import ctypes as c
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opt_model import native
from opt_model.exchange.stored import BFLOAT16

SOURCES = native.Sources(
    "opt",
    Path(__file__).parent,
    (
        "opt.cpp",
        "tiled_attention.h",
        "attention.h",
        "rows.h",
        "panels.h",
        "tiles.h",
        "dots.h",
        "bundled.h",
        "linear.h",
        "lanes.h",
        "weights.h",
    ),
    abi=2,
)
FLOAT32, INT8 = np.dtype(np.float32), np.dtype(np.int8)
KINDS: dict[np.dtype[Any], int] = {FLOAT32: 0, BFLOAT16: 1, INT8: 2}
STORED: dict[np.dtype[Any], int] = {FLOAT32: 0, BFLOAT16: 1, np.dtype(np.float16): 3}
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
    """A weight matrix [n, k] in float32, bfloat16, or int8 with a scale for each row; its numbers lie side by side."""

    weight: NDArray[Any]
    bias: NDArray[np.float32] | None = None
    scale: NDArray[np.float32] | None = None
    shift: NDArray[np.int32] | None = None
    """int8: 128 x the sum of each row; takes back what makes the inputs unsigned."""
    mapped: bool = False
    """It lies in a file."""

    def c(self) -> CLinear:
        """The structure; its memory is this object's."""
        n, k = self.weight.shape
        parts = (self.weight, self.bias, self.scale, self.shift)
        return CLinear(*(None if part is None else address(part) for part in parts), n, k, KINDS[self.weight.dtype])


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


def linear(
    matrix: Matrix, x_MK: NDArray[np.float32], *, threads: int, relu: bool = False, level: str | None = None
) -> NDArray[np.float32]:
    """X W^T + b, float32 in and out, [M, K] -> [M, N]."""
    x_MK = np.ascontiguousarray(x_MK)
    y_MN = np.empty((len(x_MK), len(matrix.weight)), np.float32)
    call = load(level).opt_linear
    call(c.byref(matrix.c()), len(x_MK), address(x_MK), address(y_MN), int(relu), threads)
    return y_MN


def largest(x_RV: NDArray[np.float32], *, level: str | None = None) -> list[int]:
    """The place of each row's largest number, the first of equal ones."""
    rows, width = x_RV.shape
    stride, beside = (step // x_RV.itemsize for step in x_RV.strides)
    assert beside == 1
    places = (c.c_int64 * rows)()
    load(level).opt_largest(address(x_RV), rows, stride, width, places)
    return list(places)


def convert(weight_NK: NDArray[Any], to_NK: NDArray[Any], *, threads: int = 1, level: str | None = None) -> None:
    """Put a matrix of a file into float32 or bfloat16, rounded to nearest even."""
    stored = _stored(weight_NK)
    load(level).opt_convert(c.byref(stored), address(to_NK), KINDS[to_NK.dtype], threads)


def quantise(weight_NK: NDArray[Any], into: Matrix, *, threads: int = 1, level: str | None = None) -> None:
    """Put a matrix of a file into an int8 one, as `compute.matrices.quantise` does."""
    assert into.scale is not None
    assert into.shift is not None
    stored = _stored(weight_NK)
    load(level).opt_quantise(c.byref(stored), *map(address, (into.weight, into.scale, into.shift)), threads)


def _stored(weight_NK: NDArray[Any]) -> CStored:
    stride, beside = (step // weight_NK.itemsize for step in weight_NK.strides)
    assert beside == 1
    return CStored(address(weight_NK), *weight_NK.shape, stride, STORED[weight_NK.dtype])


def address(array: NDArray[Any]) -> int:
    """Where an array's numbers begin."""
    return int(array.ctypes.data)
