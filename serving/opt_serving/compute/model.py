"""`OPT` with its matrices in any number format: activations, norms and sums stay in float32."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from opt_model import OPT
from opt_serving.compute.matrices import LoadedWeights, look_up
from opt_serving.kernels.library import Matrix

Multiply = Callable[[Matrix, Tensor], Tensor]
"""x W^T + b; [..., K] -> [..., N], float32."""


class MatrixLinear(nn.Module):
    """A linear layer over a `Matrix`."""

    def __init__(self, matrix: Matrix, multiply: Multiply) -> None:
        super().__init__()
        self.matrix, self._multiply = matrix, multiply

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., N]."""
        return self._multiply(self.matrix, x)


class MatrixLookUp(nn.Module):
    """An embedding over a `Matrix`."""

    def __init__(self, matrix: Matrix) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, rows: Tensor) -> Tensor:
        """[...] -> [..., K]."""
        return look_up(self.matrix, rows)


def build(weights: LoadedWeights, multiply: Multiply, device: torch.device) -> OPT:
    """A model whose parameters are the loaded tensors themselves; for passes without gradients only."""
    with torch.device("meta"):
        model = OPT(weights.shape).eval()
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.LayerNorm):
            module.weight = _parameter(weights.vector(f"{path}.weight").to(device))
            module.bias = _parameter(weights.vector(f"{path}.bias").to(device))
        elif isinstance(module, nn.Linear):
            _replace(model, path, MatrixLinear(_on(weights.matrix(path), device), multiply))
        elif isinstance(module, nn.Embedding):
            table = weights.positions() if path == "embed_positions" else weights.matrix(path)
            _replace(model, path, MatrixLookUp(_on(table, device)))
    return model


def matrix_of(module: nn.Module | None) -> Matrix | None:
    """The matrix of a layer that `build` made."""
    if module is None:
        return None
    assert isinstance(module, MatrixLinear | MatrixLookUp)
    return module.matrix


def _on(matrix: Matrix, device: torch.device) -> Matrix:
    if device.type == "cpu":
        return matrix
    parts = (matrix.weight, matrix.bias, matrix.scale, matrix.shift)
    moved = [None if part is None else part.to(device) for part in parts]
    assert moved[0] is not None
    return Matrix(moved[0], *moved[1:])


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, layer)
