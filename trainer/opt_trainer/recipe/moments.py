"""What AdamW remembers of a worker's parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from opt_model.zeros import untouched_zeros
from opt_trainer.parallelism.build import Part

_LINE = 16
"""Numbers in a cache line; every tensor begins with one."""


class Moments:
    """The two moments of each part, float32 in its shape, and the count of updates.

    They are there from the start, so that a checkpoint can be read into them before the first step.

    Attributes:
        first: Running means of gradients, one per part.
        second: Running means of their squares.
        updates: Updates made, float32 [1]: Adam's own clock, which overflowing steps do not advance.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        masters = [part.master for part in parts]
        self.first, self.second = _zeros_like(masters), _zeros_like(masters)
        self.updates = torch.zeros(1, dtype=torch.float32)


def _zeros_like(masters: Sequence[Tensor]) -> list[Tensor]:
    """Zeros in the masters' shapes, whose memory the system provides when they are first touched.

    A recovery fills them at once with what was kept: zeros that are written before cost it a third of its memory work.
    """
    if not masters or masters[0].device.type != "cpu":
        return [torch.zeros_like(master) for master in masters]
    sizes = [-(-master.numel() // _LINE) * _LINE for master in masters]
    pieces = torch.split(torch.from_numpy(untouched_zeros(sum(sizes), np.dtype(np.float32))), sizes)
    return [piece[: m.numel()].view(m.shape) for piece, m in zip(pieces, masters, strict=True)]
