"""Norms over tensors that are spread over the gang: each worker's share of the sum of squares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from opt_trainer.parallelism.build import Part

_PIECE = 2**18
"""Numbers whose squares are summed in float32, as a dot product; sums of pieces are added in float64.

On a processor torch reads 30 GB/s so (two cores), rows of norms 20 and norms of whole tensors 15, and a sum is off
by some 1e-7.
"""


def square_share(parts: Sequence[Part], tensors: Sequence[Tensor]) -> Tensor:
    """This worker's share of the squared L2 norm, float64 [1]; the sum over all workers is the whole.

    A part that several workers hold counts on each of them with its share, so that nothing counts twice.
    """
    held = [(part, tensor) for part, tensor in zip(parts, tensors, strict=True) if tensor.numel()]
    squares = _squares([tensor for _, tensor in held])
    copies = torch.tensor([part.box.copies for part, _ in held], dtype=torch.float64, device=squares.device)
    return (squares / copies).sum().reshape(1)


def _squares(tensors: list[Tensor]) -> Tensor:
    """The squared norm of each, float64 [tensors]."""
    if tensors[0].device.type != "cpu":
        return torch.stack(torch._foreach_norm(tensors)).double().square()
    return torch.stack([_square(tensor.view(-1)) for tensor in tensors])


def _square(flat: Tensor) -> Tensor:
    return torch.stack([torch.dot(piece, piece) for piece in torch.split(flat, _PIECE)]).double().sum()
