"""Tasks in parallel: their order and the first fault."""

from __future__ import annotations

import threading

import pytest

from opt_store import in_order

pytestmark = pytest.mark.unit


def test_results_keep_their_order():
    assert list(in_order((lambda n=n: n * n for n in range(20)), 3)) == [n * n for n in range(20)]


def test_the_first_fault_stops_what_has_not_begun():
    begun: list[int] = []
    gate = threading.Event()

    def task(number: int) -> None:
        begun.append(number)
        if number == 0:
            gate.wait(10)
            raise OSError("first")
        gate.set()

    with pytest.raises(OSError, match="first"):
        list(in_order([lambda n=n: task(n) for n in range(1000)], 2))
    assert set(begun) <= {0, 1, 2, 3}
