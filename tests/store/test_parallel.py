"""Parts in parallel: order, bounds and the first error."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opt_store.s3.parallel import MAX_PARTS, Tally, in_order, part_size, ranges

pytestmark = pytest.mark.unit
MIB = 1 << 20


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**6).map(lambda n: n * 7))
def test_ranges_cover_everything_once(offset: int, length: int, part: int):
    found = ranges(offset, length, part)
    position = offset
    for start, size in found:
        assert start == position
        assert 0 < size <= part
        position += size
    assert position == offset + length


@given(st.integers(0, 5 * 2**40), st.integers(5 * MIB, 100 * MIB))
def test_no_object_has_too_many_parts(size: int, wanted: int):
    part = part_size(size, wanted)
    assert part >= wanted
    assert -(-size // part) <= MAX_PARTS


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


def test_progress_adds_up():
    seen: list[tuple[int, int]] = []
    tally = Tally(10, lambda *now: seen.append(now))
    for count in (3, 3, 4):
        tally.add(count)
    assert seen == [(3, 10), (6, 10), (10, 10)]
