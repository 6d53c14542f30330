"""The queue of keys: each once, one at a time, and later where it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from opt_operator.core.snapshot import Key
from opt_operator.shell.queue import AT_ONCE_S, BEHIND_S, FIRST_S, PATIENCE_S, ROUTINE_S, Lane, WorkQueue

pytestmark = pytest.mark.unit
ONE, OTHER, THIRD = Key("team", "one"), Key("team", "other"), Key("team", "third")


class Clock(WorkQueue):
    """A queue whose time stands still until it is moved."""

    now = 0.0

    def _now(self) -> float:  # type: ignore[override]
        return self.now


def played(play: Callable[[Clock], Awaitable[None]]) -> None:
    async def run() -> None:
        await play(Clock())

    asyncio.run(run())


def test_a_key_is_taken_once_and_again_if_it_was_added_meanwhile() -> None:
    async def play(queue: Clock) -> None:
        queue.add(ONE)
        queue.add(ONE)
        queue.add(OTHER)
        assert [await queue.take(), await queue.take()] == [ONE, OTHER]
        queue.add(ONE)
        assert not queue._lane(), "it is at work"
        queue.done(ONE)
        assert await queue.take() == ONE

    played(play)


def test_what_fails_comes_again_later_and_later() -> None:
    async def play(queue: Clock) -> None:
        queue.add(ONE)
        waits = []
        for _ in range(4):
            assert await queue.take() == ONE
            waits.append(queue.failed(ONE))
            queue.now += waits[-1]
        assert waits[0] < 1.3 * FIRST_S
        assert waits[3] > 4 * FIRST_S
        await queue.take()
        assert queue.failed(ONE, at_least_s=77.0) == 77.0

    played(play)


def test_it_is_behind_when_the_first_has_waited_for_long() -> None:
    async def play(queue: Clock) -> None:
        assert not queue.behind
        queue.add(ONE)
        queue.now += 2 * BEHIND_S
        queue.add(OTHER)
        assert queue.behind
        await queue.take()
        assert not queue.behind, "the other came just now"

    played(play)


def test_what_has_changed_goes_before_what_is_only_due() -> None:
    async def play(queue: Clock) -> None:
        queue.add_after(ONE, ROUTINE_S)
        queue.add_after(OTHER, ROUTINE_S)
        queue.now += ROUTINE_S
        queue._promote()
        queue.add(THIRD)
        queue.add(OTHER)
        assert [await queue.take() for _ in range(3)] == [THIRD, OTHER, ONE]

    played(play)


def test_a_look_that_was_put_off_for_a_moment_goes_on_with_what_was_begun() -> None:
    async def play(queue: Clock) -> None:
        queue.add_after(ONE, ROUTINE_S)
        queue.add_after(OTHER, AT_ONCE_S)
        queue.now += ROUTINE_S
        queue.add(THIRD)
        assert [await queue.take() for _ in range(3)] == [OTHER, THIRD, ONE]

    played(play)


def test_who_is_in_two_lanes_keeps_the_better_one() -> None:
    async def play(queue: Clock) -> None:
        queue.add(ONE)
        queue.add(OTHER)
        queue.add(OTHER, Lane.FIRST)
        queue.add(OTHER)
        assert [await queue.take(), await queue.take()] == [OTHER, ONE]
        queue.add(ONE, Lane.FIRST)
        queue.add(ONE)
        queue.add(THIRD)
        queue.done(ONE)
        assert [await queue.take(), await queue.take()] == [ONE, THIRD]

    played(play)


def test_what_is_due_lets_others_pass_for_a_while_only() -> None:
    async def play(queue: Clock) -> None:
        queue.add_after(ONE, ROUTINE_S)
        queue.now += ROUTINE_S
        queue._promote()
        queue.now += PATIENCE_S + 1
        queue.add(OTHER)
        assert queue.behind
        assert queue.measure() == PATIENCE_S + 1
        assert await queue.take() == ONE

    played(play)


def test_a_key_that_is_due_while_it_is_at_work_is_taken_once_more() -> None:
    async def play(queue: Clock) -> None:
        queue.add(ONE)
        assert await queue.take() == ONE
        queue.add_after(ONE, ROUTINE_S)
        queue.now += ROUTINE_S
        queue._promote()
        queue.done(ONE)
        assert await queue.take() == ONE

    played(play)


def test_who_waits_can_be_cancelled_at_the_moment_in_which_something_comes() -> None:
    async def play() -> None:
        queue = WorkQueue()
        queue.add_after(ONE, 1000.0)
        waiting = asyncio.create_task(queue.take())
        await asyncio.sleep(0.01)
        queue.add_after(OTHER, 500.0)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting}, timeout=5)
        assert waiting.cancelled()

    asyncio.run(play())
