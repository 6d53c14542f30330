"""Initial weights: a pure function of (seed, parameter name, row), so that every layout starts alike.

N(0, 0.006) for all weights, output layers of both halves of a block scaled by 1/sqrt(2 L), biases 0 (arXiv 2205.01068,
section 2.2). Rows are drawn in blocks, each from a generator of its own: a rank draws the blocks that its shard touches
and no others, whatever the size of the model.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from opt_api.architecture import Architecture
from opt_model.randomness import seed_of

PADDING_ID = 1
"""Row of both embedding tables that starts at 0, as in the released code."""
_BLOCK_NUMBERS = 1 << 20
_OUTPUT_LAYERS = ("out_proj.weight", "fc2.weight")


@torch.no_grad()
def initialise(model: nn.Module, shape: Architecture, seed: int) -> None:
    """Fill a whole, undivided model."""
    for name, parameter in model.named_parameters():
        fill(parameter, name, tuple(parameter.shape), (0,) * parameter.dim(), shape, seed)


@torch.no_grad()
def fill(
    local: Tensor, name: str, whole: tuple[int, ...], offset: tuple[int, ...], shape: Architecture, seed: int
) -> None:
    """Fill one shard: the part of the tensor `name` of shape `whole` that begins at `offset`."""
    if local.numel() == 0:
        return
    if local.dim() == 1:
        local.fill_(1.0 if name.endswith("layer_norm.weight") else 0.0)
        return
    rows = _rows(name, whole, offset[0], offset[0] + local.shape[0], _deviation(name, shape), seed)
    local.copy_(rows[:, offset[1] : offset[1] + local.shape[1]])


def _deviation(name: str, shape: Architecture) -> float:
    return shape.init_std / math.sqrt(2 * shape.layers) if name.endswith(_OUTPUT_LAYERS) else shape.init_std


def _rows(name: str, whole: tuple[int, ...], first: int, last: int, deviation: float, seed: int) -> Tensor:
    """Rows [first, last) of a matrix, float32."""
    height = max(1, _BLOCK_NUMBERS // whole[1])
    blocks = range(first // height, (last - 1) // height + 1)
    drawn = [_block(name, block, min(height, whole[0] - block * height), whole[1], deviation, seed) for block in blocks]
    rows = torch.cat(drawn)
    start = blocks.start * height
    if "embed_" in name and start <= PADDING_ID < start + rows.shape[0]:
        rows[PADDING_ID - start] = 0.0
    return rows[first - start : last - start]


def _block(name: str, block: int, height: int, width: int, deviation: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed_of(seed, name, block))
    return torch.empty(height, width).normal_(0.0, deviation, generator=generator)
