"""`OPT` with its matrices in any number format: activations, norms and sums stay in float32."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from opt_model import OPT
from opt_model.partition import divided_dimension
from opt_serving.compute.group import Group, share_of
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


class SummedLinear(MatrixLinear):
    """A linear layer over a rank's share of the inputs."""

    def __init__(self, matrix: Matrix, multiply: Multiply, group: Group) -> None:
        super().__init__(matrix, multiply)
        self._group = group

    def forward(self, x: Tensor) -> Tensor:
        """[..., K / ranks] -> [..., N], the same on every rank."""
        return self._group.sum(super().forward(x))


class MatrixLookUp(nn.Module):
    """An embedding over a `Matrix`."""

    def __init__(self, matrix: Matrix) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, rows: Tensor) -> Tensor:
        """[...] -> [..., K]."""
        return look_up(self.matrix, rows)


class DividedLookUp(MatrixLookUp):
    """The token embedding, of which each rank holds some rows; with the head that shares them."""

    def __init__(self, matrix: Matrix, vocabulary: int, multiply: Multiply, group: Group) -> None:
        super().__init__(matrix)
        self._group, self._multiply, self._vocabulary = group, multiply, vocabulary
        self._own = share_of(vocabulary, group.rank, group.size)

    def forward(self, rows: Tensor) -> Tensor:
        """[...] -> [..., K], the same on every rank."""
        if self._group.size == 1:
            return super().forward(rows)
        here = (rows >= self._own.start) & (rows < self._own.stop)
        found = look_up(self.matrix, (rows - self._own.start).where(here, 0))
        return self._group.sum(found.where(here[..., None], 0))

    def logits(self, x_RE: Tensor) -> Tensor:
        """[R, E] -> [R, V], the same on every rank."""
        logits = self._multiply(self.matrix, x_RE)
        each = share_of(self._vocabulary, 0, self._group.size).stop
        if logits.shape[-1] < each:  # the last rank's share is shorter
            logits = torch.nn.functional.pad(logits, (0, each - logits.shape[-1]))
        return self._group.side_by_side(logits)[..., : self._vocabulary]


def build(weights: LoadedWeights, multiply: Multiply, device: torch.device) -> OPT:
    """A model whose parameters are the loaded tensors themselves; for passes without gradients only."""
    with torch.device("meta"):
        model = OPT(weights.shape).eval()
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.LayerNorm):
            module.weight = _parameter(weights.vector(f"{path}.weight").to(device))
            module.bias = _parameter(weights.vector(f"{path}.bias").to(device))
        elif isinstance(module, nn.Linear):
            matrix, added_up = _on(weights.matrix(path), device), divided_dimension(f"{path}.weight") == 1
            layer = SummedLinear(matrix, multiply, weights.group) if added_up else MatrixLinear(matrix, multiply)
            _replace(model, path, layer)
    positions, tokens = (_on(table, device) for table in (weights.positions(), weights.matrix("embed_tokens")))
    _replace(model, "embed_positions", MatrixLookUp(positions))
    _replace(model, "embed_tokens", DividedLookUp(tokens, weights.shape.vocabulary_size, multiply, weights.group))
    return model


def head_of(model: OPT) -> DividedLookUp:
    """The head of a model that `build` made."""
    head = model.embed_tokens
    assert isinstance(head, DividedLookUp)
    return head


def matrix_of(module: nn.Module | None) -> Matrix | None:
    """The matrix of a layer that `build` made."""
    if module is None:
        return None
    assert isinstance(module, MatrixLinear | MatrixLookUp)
    return module.matrix


def _on(matrix: Matrix, device: torch.device) -> Matrix:
    if device.type == "cpu":
        return matrix
    bias, scale, shift = (
        None if part is None else part.to(device) for part in (matrix.bias, matrix.scale, matrix.shift)
    )
    return Matrix(matrix.weight.to(device), bias, scale, shift)


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, layer)
