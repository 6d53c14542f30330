"""Zeros cost nothing until they are touched."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from opt_model.zeros import touch, untouched_zeros

pytestmark = pytest.mark.unit
SIZE = 64 << 20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int8])
def test_memory_is_taken_where_they_are_touched(dtype: type) -> None:
    before = resident()
    kind = np.dtype(dtype)
    zeros = untouched_zeros(SIZE // kind.itemsize, kind)
    assert resident() - before < SIZE // 8
    assert (zeros.dtype, zeros.shape) == (kind, (SIZE // kind.itemsize,))
    assert not zeros[: 1 << 16].any()
    zeros[: len(zeros) // 2].fill(1)
    assert SIZE // 4 < resident() - before < SIZE * 3 // 4
    assert not zeros[-(1 << 16) :].any()


def test_a_part_can_be_provided_ahead_without_a_change_of_its_numbers() -> None:
    before = resident()
    zeros = untouched_zeros(SIZE, np.dtype(np.uint8))
    zeros[:100] = 7
    if touch(zeros[50 : SIZE // 2]):  # Linux 5.14
        assert SIZE // 4 < resident() - before < SIZE * 3 // 4
    assert (zeros[:100] == 7).all()
    assert not zeros[100:].any()


def test_there_may_be_none() -> None:
    assert untouched_zeros(0, np.dtype(np.float32)).shape == (0,)
