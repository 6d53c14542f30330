"""How many looks are made at once: more while they are quick, fewer when they take long."""

from __future__ import annotations

import asyncio

import pytest

from opt_operator.shell.pace import BEGIN, LEAST, MOST, QUICK_S, Pace

pytestmark = pytest.mark.unit


def test_quick_looks_allow_more_up_to_a_limit() -> None:
    async def play() -> None:
        pace = Pace()
        assert pace.allowed == BEGIN
        for _ in range(MOST * MOST):
            pace.took(QUICK_S / 2)
        assert pace.allowed == MOST

    asyncio.run(play())


def test_a_long_one_takes_a_part_away_and_those_beside_it_no_more() -> None:
    async def play() -> None:
        pace = Pace()
        for _ in range(MOST * MOST):
            pace.took(QUICK_S / 2)
        for _ in range(3):
            pace.took(2 * QUICK_S)
        assert pace.allowed == MOST // 2, "they were under way together"

    asyncio.run(play())


def test_it_never_comes_to_a_stand() -> None:
    async def play() -> None:
        pace, loop = Pace(), asyncio.get_running_loop()
        for _ in range(20):
            pace._cut_s = loop.time() - 10 * QUICK_S
            pace.took(2 * QUICK_S)
        assert pace.allowed == LEAST

    asyncio.run(play())


def test_a_worker_beyond_the_number_waits_until_there_are_more() -> None:
    async def play() -> None:
        pace = Pace()
        await asyncio.wait_for(pace.turn(BEGIN - 1), 1)
        waiting = asyncio.create_task(pace.turn(BEGIN))
        await asyncio.sleep(0)
        assert not waiting.done()
        for _ in range(2 * BEGIN):
            pace.took(QUICK_S / 2)
        await asyncio.wait_for(waiting, 1)

    asyncio.run(play())
