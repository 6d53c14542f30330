"""Norms over tensors that are spread over the gang: each worker's share of the sum of squares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from opt_trainer.parallelism.build import Part


def square_share(parts: Sequence[Part], tensors: Sequence[Tensor]) -> Tensor:
    """This worker's share of the squared L2 norm, float64 [1]; the sum over all workers is the whole.

    A part that several workers hold counts on each of them with its share, so that nothing counts twice.
    """
    held = [(part, tensor) for part, tensor in zip(parts, tensors, strict=True) if tensor.numel()]
    norms = torch.stack(torch._foreach_norm([tensor for _, tensor in held])).double()
    copies = torch.tensor([part.box.copies for part, _ in held], dtype=torch.float64, device=norms.device)
    return (norms.square() / copies).sum().reshape(1)
