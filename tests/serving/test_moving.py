"""Float32 matrices leave the file that they were mapped from, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from opt_model.exchange.reader import Weights
from opt_model.exchange.stored import BFLOAT16
from opt_serving.compute import moving
from opt_serving.compute.native_computer import NativeComputer
from opt_serving.compute.passes import Pass

PAGES, FLOAT32 = 4, np.dtype(np.float32)


def opened(folder: Path, dtype: np.dtype) -> NativeComputer:
    return NativeComputer(Weights.open(folder), dtype, PAGES, FLOAT32, threads=1)


def logits(computer: NativeComputer) -> NDArray[np.float32]:
    """Of one pass of ten tokens, a copy."""
    count = np.arange(10, dtype=np.int64)
    pages = np.arange(PAGES, dtype=np.int32)[None]
    return computer.run(Pass(count + 5, count, np.zeros_like(count), pages, count)).copy()


def mapped(folder: Path) -> int:
    """How often this process has mapped a file of the model."""
    return sum(str(folder) in line for line in Path("/proc/self/maps").read_text().splitlines())


@pytest.mark.unit
def test_every_pass_gives_the_same_numbers_while_matrices_move(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "_PIECE", 1 << 13)  # several pieces of each
    computer = opened(folder, FLOAT32)
    before, left, pieces = logits(computer), len(computer._moving), 0
    maps = mapped(folder)
    assert left == 6 * computer.shape.layers + 1
    while computer.prepare():
        pieces += 1
        assert np.array_equal(logits(computer), before)
    assert pieces > 2 * left
    assert np.array_equal(logits(computer), before)
    assert mapped(folder) == maps - left


@pytest.mark.unit
@pytest.mark.parametrize("dtype", [BFLOAT16, np.dtype(np.int8)])
def test_what_was_made_or_gains_nothing_stays(folder: Path, dtype: np.dtype) -> None:
    assert not opened(folder, dtype)._moving


@pytest.mark.unit
def test_a_matrix_for_which_there_is_no_memory_stays_and_so_do_the_rest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([1 << 40, 1 << 40, 0])
    monkeypatch.setattr(moving, "memory_available", lambda: next(free))
    computer = opened(folder, FLOAT32)
    before, maps = logits(computer), mapped(folder)
    while computer.prepare():
        pass
    assert mapped(folder) == maps - 2
    assert np.array_equal(logits(computer), before)
