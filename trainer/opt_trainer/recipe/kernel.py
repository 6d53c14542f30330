"""The compiled update as Python calls: structures as in `update.cpp`."""

from __future__ import annotations

import ctypes as c
from functools import cache
from pathlib import Path
from typing import Any

import torch

from opt_model import native

SOURCES = native.Sources("update", Path(__file__).parent, ("update.cpp",), ("-ffp-contract=off",))
"""Nothing is contracted, so that the same bits come out on every processor."""
FORMATS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


class CPart(c.Structure):
    """`Part`."""

    _fields_ = (
        *((name, c.c_void_p) for name in ("master", "first", "second", "compute", "gradient")),
        ("count", c.c_int64),
    )


class CRates(c.Structure):
    """`Rates`."""

    _fields_ = tuple(
        (name, c.c_float)
        for name in ("unscale", "keep", "new_first", "keep_second", "new_second", "size", "root", "epsilon")
    )


@cache
def load(level: str | None = None) -> Any:
    """The loaded library.

    Raises:
        opt_model.native.KernelUnavailable: There is none for this machine.
    """
    loaded = native.load(SOURCES, level)
    pointer, number = c.c_void_p, c.c_int32
    loaded.update_squares.argtypes = (pointer, c.c_int64, number, number, pointer)
    loaded.update_all.argtypes = (pointer, c.c_int64, number, number, pointer, number, pointer)
    for call in (loaded.update_squares, loaded.update_all):
        call.restype = None
    return loaded
