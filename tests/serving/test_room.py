"""Where matrices lie."""

from __future__ import annotations

import numpy as np
import pytest

from opt_model.exchange.stored import BFLOAT16
from opt_serving.compute import room as rooms
from opt_serving.compute.room import Room

pytestmark = pytest.mark.unit


def test_matrices_lie_side_by_side_and_each_begins_with_a_cache_line() -> None:
    room = Room()
    odd, next_one = room.matrix(3, 5, BFLOAT16), room.matrix(2, 64, np.dtype(np.int8))
    assert (odd.shape, odd.dtype, odd.ctypes.data % 64) == ((3, 5), BFLOAT16, 0)
    assert next_one.ctypes.data - odd.ctypes.data == 64
    odd.fill(1)
    assert not next_one.any()


def test_one_that_is_larger_than_what_is_left_has_room_of_its_own(monkeypatch) -> None:
    monkeypatch.setattr(rooms, "_CHUNK", 4096)
    room = Room()
    matrices = [room.matrix(rows, 1024, np.dtype(np.float32)) for rows in (1, 2, 1)]
    for number, matrix in enumerate(matrices):
        matrix.fill(number)
    assert [np.unique(matrix).tolist() for matrix in matrices] == [[0], [1], [2]]
