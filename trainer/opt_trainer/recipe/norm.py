"""Norms over tensors that are spread over the gang: each worker's share of the sum of squares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from opt_trainer.parallelism.build import Part

_ROW = 4096
"""Numbers of a row: its squares are summed in float32, those of rows in float64.

On a processor torch sums rows at twice the speed of a whole tensor (22 and 11 GB/s of two cores), and so more exactly.
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
    whole = flat.numel() // _ROW * _ROW
    rows, rest = flat[:whole].view(-1, _ROW), flat[whole:].view(1, -1)
    norms = torch.cat([torch.linalg.vector_norm(part, dim=1) for part in (rows, rest)])
    return norms.double().square().sum()
