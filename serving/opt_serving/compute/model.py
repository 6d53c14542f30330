"""`OPT` with its matrices in any number format: activations, norms and sums stay in float32."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from opt_model.exchange.tensors import tensor_of
from opt_model.opt import OPT
from opt_model.partition import divided_dimension
from opt_serving.compute.group import Group
from opt_serving.compute.matrices import LoadedWeights
from opt_serving.compute.shares import Share
from opt_serving.kernels.library import Matrix

M = TypeVar("M")
"""A matrix where products are made."""


class Arithmetic(Protocol[M]):
    """What multiplies, with matrices as it needs them."""

    @property
    def device(self) -> torch.device:
        """Where activations are."""

    def hold(self, matrix: Matrix) -> M:
        """The matrix as the others take it."""

    def multiply(self, matrix: M, x: Tensor) -> Tensor:
        """X W^T + b; [..., K] -> [..., N], float32."""

    def look_up(self, matrix: M, rows: Tensor) -> Tensor:
        """Rows of a table; [...] -> [..., K], float32."""


class MatrixLinear(nn.Module, Generic[M]):
    """A linear layer over a `Matrix`."""

    def __init__(self, matrix: M, by: Arithmetic[M]) -> None:
        super().__init__()
        self.matrix, self._by = matrix, by

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., N]."""
        return self._by.multiply(self.matrix, x)


class SummedLinear(MatrixLinear[M]):
    """A linear layer over a rank's share of the inputs."""

    def __init__(self, matrix: M, by: Arithmetic[M], group: Group) -> None:
        super().__init__(matrix, by)
        self._group = group

    def forward(self, x: Tensor) -> Tensor:
        """[..., K / ranks] -> [..., N], the same on every rank."""
        return self._group.sum(super().forward(x))


class MatrixLookUp(nn.Module, Generic[M]):
    """An embedding over a `Matrix`."""

    def __init__(self, matrix: M, by: Arithmetic[M]) -> None:
        super().__init__()
        self.matrix, self._by = matrix, by

    def forward(self, rows: Tensor) -> Tensor:
        """[...] -> [..., K]."""
        return self._by.look_up(self.matrix, rows)


class DividedLookUp(MatrixLookUp[M]):
    """The token embedding, of which each rank holds some rows; with the head that shares them."""

    def __init__(self, matrix: M, by: Arithmetic[M], vocabulary: int, group: Group) -> None:
        super().__init__(matrix, by)
        self._group, self._vocabulary = group, vocabulary
        self._own = group.share.of(vocabulary)

    def forward(self, rows: Tensor) -> Tensor:
        """[...] -> [..., K], the same on every rank."""
        if self._group.share.whole:
            return super().forward(rows)
        here = (rows >= self._own.start) & (rows < self._own.stop)
        found = super().forward((rows - self._own.start).where(here, 0))
        return self._group.sum(found.where(here[..., None], 0))

    def logits(self, x_RE: Tensor) -> Tensor:
        """[R, E] -> [R, V], the same on every rank."""
        logits = self._by.multiply(self.matrix, x_RE)
        each = Share(0, self._group.share.size).of(self._vocabulary).stop
        if logits.shape[-1] < each:  # the last rank's share is shorter
            logits = torch.nn.functional.pad(logits, (0, each - logits.shape[-1]))
        return self._group.side_by_side(logits)[..., : self._vocabulary]


def build(weights: LoadedWeights, by: Arithmetic[M], group: Group) -> OPT:
    """A model whose parameters are the loaded tensors themselves; for passes without gradients only."""
    with torch.device("meta"):
        model = OPT(weights.shape).eval()
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.LayerNorm):
            module.weight = _parameter(weights.vector(f"{path}.weight"), by.device)
            module.bias = _parameter(weights.vector(f"{path}.bias"), by.device)
        elif isinstance(module, nn.Linear):
            matrix, added_up = by.hold(weights.matrix(path)), divided_dimension(f"{path}.weight") == 1
            _replace(model, path, SummedLinear(matrix, by, group) if added_up else MatrixLinear(matrix, by))
    positions, tokens = by.hold(weights.positions()), by.hold(weights.matrix("embed_tokens"))
    _replace(model, "embed_positions", MatrixLookUp(positions, by))
    _replace(model, "embed_tokens", DividedLookUp(tokens, by, weights.shape.vocabulary_size, group))
    return model


def head_of(model: OPT) -> DividedLookUp[Any]:
    """The head of a model that `build` made."""
    head = model.embed_tokens
    assert isinstance(head, DividedLookUp)
    return head


def _parameter(numbers: NDArray[Any], device: torch.device) -> nn.Parameter:
    return nn.Parameter(tensor_of(numbers).to(device), requires_grad=False)


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, layer)
