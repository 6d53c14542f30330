"""Full collections wait for a quiet moment, are made in the end, and Python makes none by itself meanwhile."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from opt_operator.shell import garbage

pytestmark = pytest.mark.unit


class Knot:
    """Holds itself."""

    def __init__(self) -> None:
        self.me = self


def old_knot() -> weakref.ref[Knot]:
    """Garbage that only a full collection finds."""
    knot = Knot()
    gc.collect()
    return weakref.ref(knot)


async def while_it_runs(busy: Callable[[], bool], until: Callable[[], bool]) -> None:
    task = asyncio.create_task(garbage.run(busy))
    for _ in range(2000):
        await asyncio.sleep(0.001)
        if until():
            break
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "EVERY_S", 0.001)
    monkeypatch.setattr(garbage, "LOOK_S", 0.001)


def test_garbage_goes_when_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "LET_PASS_S", 1000.0)
    knot, asked = old_knot(), 0

    def busy() -> bool:
        nonlocal asked
        asked += 1
        assert knot() is not None
        return asked < 20

    asyncio.run(while_it_runs(busy, lambda: knot() is None))
    assert knot() is None
    assert asked >= 20


def test_it_goes_in_the_end_however_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "LET_PASS_S", 0.01)
    knot = old_knot()
    asyncio.run(while_it_runs(lambda: True, lambda: knot() is None))
    assert knot() is None


def test_python_makes_no_full_collection_meanwhile() -> None:
    before = gc.get_threshold()
    found: list[int] = []

    def until() -> bool:
        found.append(gc.get_threshold()[2])
        return len(found) > 1

    asyncio.run(while_it_runs(lambda: True, until))
    assert found[-1] == garbage.NEVER
    assert gc.get_threshold() == before
