"""Memory of keys and values: at once in small pages, in large ones when there is time, and some ahead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opt_api.architecture import Architecture
from opt_model.exchange.reader import Weights
from opt_model.zeros import LARGE
from opt_serving.compute.cache import PageRoom, empty_pages
from opt_serving.compute.native_computer import NativeComputer
from opt_serving.engine.computers import make_computer
from opt_serving.settings import EngineSettings
from support.large_pages import can_enlarge, in_large_pages

pytestmark = pytest.mark.unit
SHAPE = Architecture(layers=2, heads=4, hidden_size=64, ffn_size=256, embedding_size=64, vocabulary_size=512)
KIND = np.dtype(np.float32)
PAGE_BYTES = 2 * 2 * 64 * 32 * 4
"""Layers, keys and values, width, positions, bytes of a number."""
A_LARGE_ONE = LARGE // PAGE_BYTES


def room_of(pages: int) -> PageRoom:
    return PageRoom(empty_pages(SHAPE, SHAPE.heads, pages, KIND, large=False))


@pytest.fixture(autouse=True)
def _two_large_pages_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opt_serving.compute.cache._AHEAD", 2 * LARGE)


def test_what_a_burst_wrote_goes_to_large_pages_and_keeps_its_numbers() -> None:
    room = room_of(20 * A_LARGE_ONE)
    assert room.pages[0].nbytes == PAGE_BYTES
    written = room.pages[: 3 * A_LARGE_ONE]
    written[:] = np.arange(len(written)).reshape(-1, 1, 1, 1)
    room.use(len(written))
    assert in_large_pages(room.pages) == 0
    while room.prepare():
        pass
    assert (written == np.arange(len(written)).reshape(-1, 1, 1, 1)).all()
    ahead = 6 * A_LARGE_ONE
    assert len(written) + ahead <= room.provided <= len(written) + ahead + A_LARGE_ONE
    if can_enlarge():
        assert 8 * LARGE <= in_large_pages(room.pages) <= 10 * LARGE


def test_some_is_provided_before_anybody_asks_and_no_more_than_there_is() -> None:
    room, steps = room_of(20 * A_LARGE_ONE), 0
    while room.prepare():
        steps += 1
    assert 2 <= steps <= 3
    assert 2 * A_LARGE_ONE <= room.provided <= 3 * A_LARGE_ONE
    room.use(20 * A_LARGE_ONE)
    while room.prepare():
        pass
    assert room.provided == len(room.pages) == 20 * A_LARGE_ONE


def test_all_of_it_is_provided_where_that_is_asked_for() -> None:
    room = room_of(20 * A_LARGE_ONE)
    while room.prepare():
        pass
    assert room.provided < len(room.pages)
    while room.prepare(whole=True):
        pass
    assert room.provided == len(room.pages)
    assert not room.prepare()
    if can_enlarge():
        assert in_large_pages(room.pages) >= 18 * LARGE


@pytest.mark.parametrize("whole", [False, True])
def test_an_engine_takes_all_of_it_where_that_is_set(folder: Path, whole: bool) -> None:
    settings = EngineSettings(kernels="yes", kv_cache_pretouch=whole)
    computer = make_computer(Weights.open(folder), 2000, settings)
    assert isinstance(computer, NativeComputer)
    while computer.prepare():
        pass
    assert computer._room.provided > 0
    assert (computer._room.provided == 2000) is whole


def test_less_than_a_large_page_is_provided_as_it_is() -> None:
    room = room_of(3)
    assert room.prepare()
    assert not room.prepare()
    assert room.provided == 3
    assert not room.pages.any()
