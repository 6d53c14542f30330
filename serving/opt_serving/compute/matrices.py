"""Weights as the engine multiplies with them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from opt_api.architecture import Architecture
from opt_model.exchange import Weights
from opt_serving.kernels.library import Matrix

_ROWS = 8192
"""Rows quantised at a time: a copy in float32 of no more than these is held."""


class LoadedWeights:
    """All tensors of a directory: matrices in the format asked for, all else in float32.

    float32 and bfloat16 files are mapped, not read, where the format asked for is their own.
    """

    def __init__(self, weights: Weights, dtype: torch.dtype) -> None:
        self.shape: Architecture = weights.shape
        self._weights, self._dtype = weights, dtype

    def matrix(self, name: str) -> Matrix:
        """A matrix by our name without `.weight`, with its bias where it has one."""
        weight = self._weights.read(f"{name}.weight")
        bias = self.vector(f"{name}.bias") if f"{name}.bias" in self._weights.places else None
        if self._dtype == torch.int8:
            return quantised(weight, bias)
        return Matrix(weight.to(self._dtype).contiguous(), bias)

    def positions(self) -> Matrix:
        """The table of positions, which is looked up and never multiplied with: int8 gains nothing there."""
        weight = self._weights.read("embed_positions.weight")
        return Matrix((weight.float() if self._dtype == torch.int8 else weight.to(self._dtype)).contiguous())

    def vector(self, name: str) -> Tensor:
        """A bias or a part of a norm, float32."""
        return self._weights.read(name).float().contiguous()


def quantised(weight_NK: Tensor, bias: Tensor | None = None) -> Matrix:
    """int8 with one scale for each row, the largest number of the row being 127."""
    rows, width = weight_NK.shape
    small_NK = torch.empty(rows, width, dtype=torch.int8)
    scale_N, shift_N = torch.empty(rows), torch.empty(rows, dtype=torch.int32)
    for start in range(0, rows, _ROWS):
        part = slice(start, start + _ROWS)
        big = weight_NK[part].float()
        scale_N[part] = (big.abs().amax(1) / 127).clamp_min(1e-30)
        small_NK[part] = (big / scale_N[part, None]).round().to(torch.int8)
        shift_N[part] = small_NK[part].sum(1, dtype=torch.int32) * 128
    return Matrix(small_NK, bias, scale_N, shift_N)


def zeros(size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros that take memory only where they are written to, unlike torch's own."""
    return torch.from_numpy(np.zeros(math.prod(size) * dtype.itemsize, np.uint8)).view(dtype).view(size)


def multiply(matrix: Matrix, x: Tensor) -> Tensor:
    """X W^T + b by torch alone, float32 in and out, on any device."""
    if matrix.weight.dtype == torch.float32:
        return linear(x, matrix.weight, matrix.bias)
    if matrix.scale is not None:
        y = linear(x, matrix.weight.to(x.dtype)) * matrix.scale
    else:
        y = linear(x.to(matrix.weight.dtype), matrix.weight).float()
    return y if matrix.bias is None else y + matrix.bias


def look_up(matrix: Matrix, rows: Tensor) -> Tensor:
    """Rows of a table, float32."""
    found = matrix.weight[rows].float()
    return found if matrix.scale is None else found * matrix.scale[rows, None]
