"""Weights as the engine multiplies with them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from opt_api.architecture import Architecture
from opt_model.exchange import Weights
from opt_model.partition import divided_dimension
from opt_serving.compute.group import Alone, Group, share_of
from opt_serving.compute.room import Room
from opt_serving.kernels import library
from opt_serving.kernels.library import Matrix

_AT_ONCE = 1 << 17
"""Numbers quantised at a time: what stays in a processor's second cache, and needs no memory worth counting."""


class LoadedWeights:
    """A rank's share of all tensors of a directory: matrices in the format asked for, all else in float32.

    float32 and bfloat16 files are mapped, not read, where the format asked for is their own (and the share is of rows).
    Else they are converted, by compiled loops where these are to be had; the bits are the same.
    """

    def __init__(
        self, weights: Weights, dtype: torch.dtype, group: Group | None = None, *, compiled: bool = False
    ) -> None:
        self.shape: Architecture = weights.shape
        self.group: Group = group or Alone()
        self._weights, self._dtype, self._room, self._compiled = weights, dtype, Room(), compiled
        self._check()

    @property
    def heads(self) -> int:
        """Of this rank."""
        return self.shape.heads // self.group.size

    def matrix(self, name: str) -> Matrix:
        """A matrix by our name without `.weight`, with its bias where it has one.

        Where the inputs are divided, the first rank alone has the bias: the results are added up.
        """
        weight = self._share(f"{name}.weight")
        added_up = divided_dimension(f"{name}.weight") == 1 and self.group.rank > 0
        bias = self.vector(f"{name}.bias") if f"{name}.bias" in self._weights.places and not added_up else None
        if self._dtype == torch.int8:
            return quantised(weight, bias, self._room, library.quantise if self._by_loops(weight) else quantise)
        if weight.dtype == self._dtype and weight.is_contiguous():
            return Matrix(weight, bias, mapped=True)
        rows, columns = weight.shape
        made = self._room.matrix(rows, columns, self._dtype)
        if self._by_loops(weight):
            library.convert(weight, made)
        else:
            made.copy_(weight)
        return Matrix(made, bias)

    def positions(self) -> Matrix:
        """The table of positions, which is looked up and never multiplied with: int8 gains nothing there."""
        weight = self._weights.read("embed_positions.weight")
        return Matrix((weight.float() if self._dtype == torch.int8 else weight.to(self._dtype)).contiguous())

    def vector(self, name: str) -> Tensor:
        """A bias or a part of a norm, float32."""
        return self._share(name).float().contiguous()

    def _by_loops(self, weight: Tensor) -> bool:
        return self._compiled and weight.dtype in library.STORED

    def _share(self, name: str) -> Tensor:
        whole, dimension = self._weights.read(name), divided_dimension(name)
        if dimension is None or self.group.size == 1:
            return whole
        part = share_of(whole.shape[dimension], self.group.rank, self.group.size)
        return whole[part] if dimension == 0 else whole[:, part]

    def _check(self) -> None:
        size = self.group.size
        for what, count in (("attention heads", self.shape.heads), ("feed-forward units", self.shape.ffn_size)):
            if count % size:
                raise ValueError(f"tensor_parallel: found {size}; the model's {count} {what} must be a multiple of it")


def quantise(weight_NK: Tensor, into: Matrix) -> None:
    """int8 with one scale for each row, the largest number of the row being 127."""
    assert into.scale is not None
    assert into.shift is not None
    rows, width = weight_NK.shape
    step = max(1, _AT_ONCE // width)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        big = weight_NK[part].float()
        into.scale[part] = (big.abs().amax(1) / 127).clamp_min(1e-30)
        into.weight[part] = (big / into.scale[part, None]).round().to(torch.int8)
        into.shift[part] = into.weight[part].sum(1, dtype=torch.int32) * 128


def quantised(
    weight_NK: Tensor,
    bias: Tensor | None = None,
    room: Room | None = None,
    by: Callable[[Tensor, Matrix], None] = quantise,
) -> Matrix:
    """The matrix in int8."""
    rows, width = weight_NK.shape
    small_NK = (room or Room()).matrix(rows, width, torch.int8)
    made = Matrix(small_NK, bias, torch.empty(rows), torch.empty(rows, dtype=torch.int32))
    by(weight_NK, made)
    return made


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
