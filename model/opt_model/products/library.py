"""The compiled products as a Python call: structures as in `products.cpp`."""

from __future__ import annotations

import ctypes as c
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from torch import Tensor

from opt_model import native

SOURCES = native.Sources("products", Path(__file__).parent, ("products.cpp", "packing.h"))
LEVEL = "amx"
"""The one level of instructions that has them."""
_log = structlog.get_logger("opt_model.products")


class CFactor(c.Structure):
    """`Factor`."""

    _fields_ = (("at", c.c_void_p), *((name, c.c_int64) for name in ("rows", "row", "step")))


class CProduct(c.Structure):
    """`Product`."""

    _fields_ = (
        ("a", CFactor), ("b", CFactor), ("k", c.c_int64), ("c", c.c_void_p), ("c_row", c.c_int64), ("bias", c.c_void_p),
        ("add", c.c_int32),
    )  # fmt: skip


@cache
def load() -> Any | None:
    """The loaded library; None where the processor has no tiles, or, with a warning, where nothing can be compiled."""
    if LEVEL not in native.levels():
        return None
    try:
        loaded = native.load(SOURCES, LEVEL)
    except native.KernelUnavailable as fault:
        _log.warning("no compiled products, torch multiplies instead (slower)", reason=str(fault))
        return None
    loaded.products_multiply.argtypes = (c.c_void_p, c.c_int32)
    loaded.products_multiply.restype = None
    return loaded


def multiply(
    library: Any, a_MK: Tensor, b_KN: Tensor, c_MN: Tensor, bias_N: Tensor | None, threads: int, *, add: bool
) -> None:
    """`c_MN = a_MK b_KN + bias_N`, or added to what `c_MN` holds.

    Numbers of a row lie side by side in `c_MN`; in a factor, those of a row or of a column.
    """
    product = CProduct(
        CFactor(a_MK.data_ptr(), *a_MK.shape[:1], *a_MK.stride()),
        CFactor(b_KN.data_ptr(), *b_KN.shape[1:], *reversed(b_KN.stride())),
        a_MK.shape[1],
        c_MN.data_ptr(),
        c_MN.stride(0),
        None if bias_N is None else bias_N.data_ptr(),
        add,
    )
    library.products_multiply(c.byref(product), threads)
