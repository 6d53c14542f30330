"""Dropout on a processor, whose random numbers cost more there than what they are multiplied with.

torch draws one 64-bit number for each element that may be dropped, one after the other; a quarter of that is enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

_LANES = 4
"""16-bit numbers in one that the generator gives."""
_CHANCES = 2**16


def dropout(x: Tensor, share: float) -> Tensor:
    """Zero about `share` of the elements, and scale the others so that the expected value stays."""
    return x * factors(x.shape, share, x.dtype) if own_numbers(x) else functional.dropout(x, share)


def own_numbers(x: Tensor) -> bool:
    """Whether numbers are drawn here: on a processor, where nothing is compiled that fuses drawing with the rest."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def factors(shape: Sequence[int], share: float, dtype: torch.dtype) -> Tensor:
    """What is multiplied: 0 with a chance of `share`, rounded to 1/65536, and the inverse of the others' chance.

    The numbers are torch's default generator's, so that whoever seeds, forks or restores it has these as well.
    """
    dropped = min(round(share * _CHANCES), _CHANCES - 1)
    count = math.prod(shape)
    drawn = torch.empty(-(-count // _LANES), dtype=torch.int64).random_(-(2**63), None)
    kept = drawn.view(torch.int16)[:count].view(tuple(shape)).ge(dropped - _CHANCES // 2)
    return kept.to(dtype).mul_(_CHANCES / (_CHANCES - dropped))
