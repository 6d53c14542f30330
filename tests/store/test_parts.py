"""Parts of an object: they cover it, and are not too many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opt_store.s3.parts import MAX_PARTS, part_size, ranges

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
