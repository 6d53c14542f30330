"""Tensors as they lie in a safetensors file: mapped into memory, not read, and without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

BFLOAT16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
_FORMATS: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": BFLOAT16,
}  # fmt: skip
"""The names that a file gives to formats of weights (safetensors format specification)."""
_METADATA, _LENGTH = "__metadata__", 8


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a file.

    Attributes:
        file: Which has it.
        name: In the file.
        dtype: Its number format.
        shape: Its shape.
        offset: Of its first byte in the file.
    """

    file: Path
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    def map(self) -> NDArray[Any]:
        """The numbers, in row order; memory is taken where they are read, and shared by all who map the file.

        What is written to them stays in this process. They go when the array and all that was cut from it are gone.
        """
        return np.asarray(np.memmap(self.file, self.dtype, "c", self.offset, self.shape))


def stored_in(file: Path) -> list[Stored]:
    """Every tensor of a file.

    Raises:
        safetensors.SafetensorError: It is no whole safetensors file.
        ValueError: A tensor is in a format that weights are not in.
    """
    with safe_open(file, framework="np"):  # the library checks lengths, shapes and that nothing lies twice
        pass
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_LENGTH), "little")
        header: dict[str, Any] = json.loads(opened.read(length))
    header.pop(_METADATA, None)
    return [_stored(file, name, told, _LENGTH + length) for name, told in header.items()]


def _stored(file: Path, name: str, told: dict[str, Any], begin: int) -> Stored:
    if told["dtype"] not in _FORMATS:
        raise ValueError(f"{file}: tensor {name} has format {told['dtype']}; allowed are {', '.join(_FORMATS)}")
    return Stored(file, name, _FORMATS[told["dtype"]], tuple(told["shape"]), begin + told["data_offsets"][0])
