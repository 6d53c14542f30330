"""Memory in small pages at first, in large ones when there is time; numbers stay."""

from __future__ import annotations

import numpy as np
import pytest

from opt_model.zeros import LARGE, enlarge, untouched_zeros
from opt_serving.compute.enlarging import Enlarging
from opt_serving.compute.room import RoomAtOnce
from support.large_pages import BYTE, can_enlarge, in_large_pages

pytestmark = pytest.mark.unit


def test_what_was_given_out_goes_to_large_pages_a_page_at_a_time() -> None:
    room = RoomAtOnce()
    matrices = [room.matrix(1000, width, np.dtype(np.float32)) for width in (700, 1, 900)]
    for number, matrix in enumerate(matrices):
        matrix[:] = number
    given = room.given
    size = sum(len(part) for part in given)
    assert size == sum(-(-matrix.nbytes // 64) * 64 for matrix in matrices)
    assert in_large_pages(matrices[0]) == 0
    enlarging, steps = Enlarging(given), 0
    while enlarging.step():
        steps += 1
    assert size // LARGE - 1 <= steps <= size // LARGE
    assert in_large_pages(matrices[0]) == (steps * LARGE if can_enlarge() else 0)
    assert [np.unique(matrix).tolist() for matrix in matrices] == [[0], [1], [2]]


def test_less_than_a_large_page_stays() -> None:
    few = untouched_zeros(LARGE - 1, BYTE, large=False)
    assert not enlarge(few)
    assert not Enlarging([few]).step()
    assert not Enlarging([]).step()


def test_what_was_left_over_is_not_given_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opt_serving.compute.room._CHUNK", 4 * LARGE)
    room = RoomAtOnce()
    for _ in range(3):
        room.matrix(LARGE, 3, BYTE)
    assert [len(part) for part in room.given if len(part)] == [3 * LARGE] * 3
