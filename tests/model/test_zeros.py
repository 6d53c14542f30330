"""Zeros cost nothing until they are touched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from opt_model.zeros import touch, untouched_zeros

pytestmark = pytest.mark.unit
SIZE = 64 << 20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_memory_is_taken_where_they_are_touched(dtype: torch.dtype) -> None:
    before = resident()
    zeros = untouched_zeros(SIZE // dtype.itemsize, dtype)
    assert resident() - before < SIZE // 8
    assert (zeros.dtype, zeros.shape) == (dtype, (SIZE // dtype.itemsize,))
    assert not zeros[: 1 << 16].any()
    zeros[: len(zeros) // 2].fill_(1)
    assert SIZE // 4 < resident() - before < SIZE * 3 // 4
    assert not zeros[-(1 << 16) :].any()


def test_a_part_can_be_provided_ahead_without_a_change_of_its_numbers() -> None:
    before = resident()
    zeros = untouched_zeros(SIZE, torch.uint8)
    zeros[:100] = 7
    if touch(zeros[50 : SIZE // 2]):  # Linux 5.14
        assert SIZE // 4 < resident() - before < SIZE * 3 // 4
    assert zeros[:100].eq(7).all()
    assert not zeros[100:].any()


def test_there_may_be_none() -> None:
    assert untouched_zeros(0, torch.float32).shape == (0,)
