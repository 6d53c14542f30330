"""A request's news, when the engine is ahead of the event loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from opt_serving.engine import Engine, Sampling, Sequence
from opt_serving.server.jobs import Inbox, Job
from support.engines import engine_of

pytestmark = pytest.mark.integration


def test_what_was_computed_beyond_the_end_of_an_answer_is_no_news(folder):
    async def heard_of(engine: Engine, asked: list[Sequence]) -> list[int]:
        job = Job(engine, Inbox(asyncio.get_running_loop()), asked)
        job.start()
        ended(asked)  # the loop stands still meanwhile, as it does on a machine with too much to do
        heard = [0, 0]
        async for progress in job.news():
            number = asked.index(progress.sequence)
            heard[number] += progress.token is not None
            if number == 0 and heard[0] == 3:
                job.drop(progress.sequence)
        return heard

    with engine_of(folder) as engine:
        asked = [Sequence([2, 5, 7], Sampling(max_tokens=20, seed=n)) for n in range(2)]
        assert asyncio.run(heard_of(engine, asked)) == [3, 20]


def test_news_end_with_the_last_one_that_is_waited_for(folder):
    async def heard_of(engine: Engine, asked: Sequence) -> int:
        job, count = Job(engine, Inbox(asyncio.get_running_loop()), [asked]), 0
        job.start()
        async for progress in job.news():
            count += 1
            job.drop(progress.sequence)
        return count

    with engine_of(folder) as engine:
        asked = Sequence([2, 5, 7], Sampling(max_tokens=200))
        assert asyncio.run(heard_of(engine, asked)) == 1
        ended([asked])


def ended(asked: list[Sequence]) -> None:
    while not all(sequence.finish for sequence in asked):
        time.sleep(0.01)
