"""Weights of a directory as torch's tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from opt_model.exchange.names import shapes_of
from opt_model.exchange.reader import Weights
from opt_model.exchange.stored import BFLOAT16


def tensor_of(array: NDArray[Any]) -> Tensor:
    """An array as a tensor over the same memory; bfloat16, which numpy itself does not know, too."""
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view("<u2")).view(torch.bfloat16)
    return torch.from_numpy(array)


def tensors_of(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    """Every tensor by our name, in the model's order, in the number format it has."""
    return ((name, tensor_of(weights.map(name))) for name in shapes_of(weights.shape))


@torch.no_grad()
def load(model: nn.Module, weights: Weights) -> None:
    """Copy all weights into a whole model of the same architecture, in the model's number format."""
    parameters = dict(model.named_parameters())
    for name, tensor in tensors_of(weights):
        parameters[name].copy_(tensor)
