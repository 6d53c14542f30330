"""Weights as the engine multiplies with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from opt_api.architecture import Architecture
from opt_model.exchange.reader import Weights
from opt_model.partition import divided_dimension
from opt_serving.compute.room import Room
from opt_serving.compute.shares import WHOLE, Share
from opt_serving.kernels import library
from opt_serving.kernels.library import FLOAT32, INT8, Matrix

_AT_ONCE = 1 << 17
"""Numbers quantised at a time: what stays in a processor's second cache, and needs no memory worth counting."""


class LoadedWeights:
    """A rank's share of all tensors of a directory: matrices in the format asked for, all else in float32.

    Files in the format asked for are mapped, not read, where the share is of rows. Else they are converted: by compiled
    loops with so many `threads`, or by numpy for none; the bits are the same. They lie in `room` then.
    """

    def __init__(
        self,
        weights: Weights,
        dtype: np.dtype[Any],
        share: Share = WHOLE,
        *,
        threads: int = 0,
        room: Room | None = None,
    ) -> None:
        self.shape: Architecture = weights.shape
        self.share = share
        self._weights, self._dtype, self._threads, self._room = weights, dtype, threads, room or Room()
        self._check()

    @property
    def heads(self) -> int:
        """Of this rank."""
        return self.shape.heads // self.share.size

    def matrix(self, name: str) -> Matrix:
        """A matrix by our name without `.weight`, with its bias where it has one.

        Where the inputs are divided, the first rank alone has the bias: the results are added up.
        """
        weight_NK = self._part(f"{name}.weight")
        added_up = divided_dimension(f"{name}.weight") == 1 and self.share.rank > 0
        bias = self.vector(f"{name}.bias") if f"{name}.bias" in self._weights.places and not added_up else None
        if self._dtype == INT8:
            return quantised(weight_NK, bias, self._room, self._threads)
        if weight_NK.dtype == self._dtype and weight_NK.flags.c_contiguous:
            return Matrix(weight_NK, bias, mapped=True)
        return Matrix(self._converted(weight_NK), bias)

    def positions(self) -> Matrix:
        """The table of positions, which is looked up and never multiplied with: int8 gains nothing there."""
        weight = self._weights.map("embed_positions.weight")
        return Matrix(np.ascontiguousarray(weight, FLOAT32 if self._dtype == INT8 else self._dtype))

    def vector(self, name: str) -> NDArray[np.float32]:
        """A bias or a part of a norm."""
        return np.ascontiguousarray(self._part(name), FLOAT32)

    def _converted(self, weight_NK: NDArray[Any]) -> NDArray[Any]:
        rows, columns = weight_NK.shape
        made_NK = self._room.matrix(rows, columns, self._dtype)
        if self._threads and weight_NK.dtype in library.STORED and self._dtype in library.KINDS:
            library.convert(weight_NK, made_NK, threads=self._threads)
        else:
            made_NK[...] = weight_NK
        return made_NK

    def _part(self, name: str) -> NDArray[Any]:
        whole, dimension = self._weights.map(name), divided_dimension(name)
        if dimension is None or self.share.whole:
            return whole
        part = self.share.of(whole.shape[dimension])
        return whole[part] if dimension == 0 else whole[:, part]

    def _check(self) -> None:
        size = self.share.size
        for what, count in (("attention heads", self.shape.heads), ("feed-forward units", self.shape.ffn_size)):
            if count % size:
                raise ValueError(f"tensor_parallel: found {size}; the model's {count} {what} must be a multiple of it")


def quantised(
    weight_NK: NDArray[Any], bias: NDArray[np.float32] | None = None, room: Room | None = None, threads: int = 0
) -> Matrix:
    """The matrix in int8, with one scale for each row; by compiled loops with so many threads, or numpy for none."""
    rows, columns = weight_NK.shape
    small_NK = (room or Room()).matrix(rows, columns, INT8)
    made = Matrix(small_NK, bias, np.empty(rows, np.float32), np.empty(rows, np.int32))
    if threads and weight_NK.dtype in library.STORED:
        library.quantise(weight_NK, made, threads=threads)
    else:
        quantise(weight_NK, made)
    return made


def quantise(weight_NK: NDArray[Any], into: Matrix) -> None:
    """Fill an int8 matrix by numpy; the largest number of each row becomes 127."""
    assert into.scale is not None
    assert into.shift is not None
    rows, columns = weight_NK.shape
    step = max(1, _AT_ONCE // columns)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        big = weight_NK[part].astype(FLOAT32)
        into.scale[part] = np.maximum(np.abs(big).max(1) / np.float32(127), np.float32(1e-30))
        with np.errstate(invalid="ignore"):  # a row with a number that is none keeps it in its scale
            into.weight[part] = np.rint(big / into.scale[part, None])
        into.shift[part] = into.weight[part].sum(1, dtype=np.int32) * 128
