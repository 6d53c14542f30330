"""Products and tables of a model's layers in torch, on any device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear

from opt_model.exchange.tensors import tensor_of
from opt_serving.kernels.library import Matrix


@dataclass(frozen=True)
class TorchMatrix:
    """A `Matrix` on a device."""

    weight: Tensor
    bias: Tensor | None
    scale: Tensor | None


@dataclass(frozen=True)
class TorchArithmetic:
    """See `Arithmetic`."""

    device: torch.device

    def hold(self, matrix: Matrix) -> TorchMatrix:
        """See `Arithmetic`."""
        return TorchMatrix(self._there(matrix.weight), self._maybe(matrix.bias), self._maybe(matrix.scale))

    def multiply(self, matrix: TorchMatrix, x: Tensor) -> Tensor:
        """See `Arithmetic`."""
        if matrix.weight.dtype == torch.float32:
            return linear(x, matrix.weight, matrix.bias)
        if matrix.scale is not None:
            y = linear(x, matrix.weight.to(x.dtype)) * matrix.scale
        else:
            y = linear(x.to(matrix.weight.dtype), matrix.weight).float()
        return y if matrix.bias is None else y + matrix.bias

    def look_up(self, matrix: TorchMatrix, rows: Tensor) -> Tensor:
        """See `Arithmetic`."""
        found = matrix.weight[rows].float()
        return found if matrix.scale is None else found * matrix.scale[rows, None]

    def _there(self, array: NDArray[Any]) -> Tensor:
        return tensor_of(array).to(self.device)

    def _maybe(self, array: NDArray[Any] | None) -> Tensor | None:
        return None if array is None else self._there(array)
