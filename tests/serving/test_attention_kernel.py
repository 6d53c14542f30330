"""Attention of the compiled kernels against torch's, at every level this processor has."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from opt_model import native
from opt_model.exchange.stored import BFLOAT16
from opt_serving.kernels import library
from opt_serving.kernels.library import CModel, CPass, address
from opt_serving.settings import PAGE

pytestmark = pytest.mark.unit
LEVELS = native.levels()
HEADS, LAYERS, LAYER = 3, 2, 1
KINDS = {torch.float32: library.KINDS[library.FLOAT32], torch.bfloat16: library.KINDS[BFLOAT16]}
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}


@dataclass
class Cached:
    """One layer of a cache whose pages are taken in a mixed order and held something else before."""

    level: str
    dtype: torch.dtype
    size: int
    pages: int = 12
    pool: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.pool = torch.full((self.pages, LAYERS, 2, HEADS, PAGE * self.size), float("nan"), dtype=self.dtype)
        self.tables = np.random.default_rng(1).permutation(self.pages).astype(np.int32).reshape(2, -1)

    def attend(self, tokens: list[tuple[int, int]], qkv: list[Tensor], threads: int = 1) -> Tensor:
        """Put (sequence, position) of each token through, rows [N, D] of queries, keys and values."""
        slots, positions = (np.array(column, np.int64) for column in zip(*tokens, strict=True))
        ids, width = np.zeros(len(tokens), np.int64), self.tables.shape[1]
        laid_out = CPass(len(tokens), width, *map(address, (ids, positions, slots, self.tables)))
        model = CModel(
            layers=LAYERS,
            heads=HEADS,
            hidden=HEADS * self.size,
            head_size=self.size,
            cache_kind=KINDS[self.dtype],
            threads=threads,
            pool=self.pool.data_ptr(),
        )
        y_ND = torch.empty_like(qkv[0])
        call = library.load(self.level).opt_attention
        call(ctypes.byref(model), LAYER, ctypes.byref(laid_out), *(t.data_ptr() for t in (*qkv, y_ND)))
        return y_ND


def rows(count: int, size: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(count, HEADS * size, generator=generator) for _ in range(3)]


def expected(qkv: list[Tensor], dtype: torch.dtype) -> Tensor:
    """Of one sequence, in float32 on what a cache of this format keeps."""
    q, k, v = (t.view(len(t), HEADS, -1).transpose(0, 1) for t in qkv)
    y = scaled_dot_product_attention(q, k.to(dtype).float(), v.to(dtype).float(), is_causal=True)
    return y.transpose(0, 1).reshape(len(qkv[0]), -1)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("size", [32, 64, 80, 96, 128])
@pytest.mark.parametrize("count", [1, 15, 33, 100])
def test_a_prompt_attends_as_in_torch(level, dtype, size, count):
    qkv = rows(count, size)
    found = Cached(level, dtype, size).attend([(1, position) for position in range(count)], qkv)
    assert torch.allclose(found, expected(qkv, dtype), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("size", [64, 80, 128])
def test_it_is_the_same_in_pieces_beside_others_and_by_several_threads(level, dtype, size):
    qkv = rows(100, size)
    whole = Cached(level, dtype, size).attend([(0, position) for position in range(100)], qkv)
    pieces = Cached(level, dtype, size)
    at, found = 0, []
    for count in (7, 1, 24, 1, 30, 37):
        ours = [(0, position) for position in range(at, at + count)]
        others = [(1, position) for position in range(at, at + count)]
        part = [t[at : at + count] for t in qkv]
        both = pieces.attend(others + ours, [torch.cat((t.flip(0), t)) for t in part], threads=2)
        found.append(both[count:])
        at += count
    assert torch.equal(torch.cat(found), whole)
