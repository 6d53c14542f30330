"""Coordinators are polled over real connections: who answers, who is only busy, and at whose address nothing is."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from typing import cast

import aiohttp
import pytest

from opt_operator.core import names
from opt_operator.core.builders.pods import COORDINATOR_PORT
from opt_operator.core.snapshot import Key
from opt_operator.shell.cache import Cache, view_of
from opt_operator.shell.kube import Kube
from opt_operator.shell.reach import no_machine, url
from opt_operator.shell.reports import PER_SECOND, TELL_S, TURN_S, HttpCoordinators
from support import addresses
from support.addresses import answering, beside, until

pytestmark = pytest.mark.integration

ONE, OTHER = Key("team", "one"), Key("team", "other")
ADDRESSES = {ONE: "127.0.40.1", OTHER: "127.0.40.2"}


def coordinator(key: Key) -> AbstractContextManager[None]:
    """One that answers."""
    return answering(ADDRESSES[key], COORDINATOR_PORT, {"run": "small", "phase": "running"})


def deaf(key: Key) -> AbstractContextManager[None]:
    return addresses.deaf(ADDRESSES[key], COORDINATOR_PORT)


def nothing(key: Key) -> AbstractContextManager[None]:
    return addresses.nothing(ADDRESSES[key], COORDINATOR_PORT)


def cached(key: Key, attempt: int = 1) -> dict[str, dict[str, object]]:
    """A training and its coordinator's pod."""
    labels = names.pod_labels(key.name, "coordinator", attempt)
    there = {"namespace": key.namespace}
    status = {"phase": "Running", "podIP": ADDRESSES[key]}
    pod = {"metadata": {"name": names.coordinator_pod(key.name, attempt), "labels": labels, **there}, "status": status}
    return {"OPTTraining": {"metadata": {"name": key.name, **there}}, "Pod": pod}


@asynccontextmanager
async def polling(*keys: Key) -> AsyncIterator[tuple[HttpCoordinators, list[Key]]]:
    cache, changed = Cache(cast("Kube", None), (), lambda *_: None), list[Key]()
    for kind, document in (item for key in keys for item in cached(key).items()):
        cache.stores[kind].put(view_of(kind, document))
    coordinators = HttpCoordinators(cache, changed.append)
    async with beside(coordinators.run()):
        yield coordinators, changed


def test_nothing_at_an_address_where_a_coordinator_was_heard_is_said_at_once() -> None:
    async def scene() -> None:
        async with polling(ONE, OTHER) as (coordinators, changed):
            with coordinator(OTHER):
                with coordinator(ONE):
                    await until(lambda: coordinators.newest(ONE) and coordinators.newest(OTHER))
                    assert coordinators.unreached_s(ONE) == 0
                changed.clear()
                with nothing(ONE):
                    await until(lambda: coordinators.unreached_s(ONE))
                    assert set(changed) == {ONE}
                    assert coordinators.unreached_s(OTHER) == 0
                with coordinator(ONE):
                    await until(lambda: not coordinators.unreached_s(ONE))

    asyncio.run(scene())


def test_where_no_other_is_heard_either_it_is_we_who_do_not_see() -> None:
    async def scene() -> None:
        async with polling(ONE, OTHER) as (coordinators, changed):
            with coordinator(OTHER), coordinator(ONE):
                await until(lambda: coordinators.newest(ONE) and coordinators.newest(OTHER))
            changed.clear()
            with nothing(ONE), nothing(OTHER):
                await until(lambda: len(set(changed)) == 2)
                assert (coordinators.unreached_s(ONE), coordinators.unreached_s(OTHER)) == (0, 0)

    asyncio.run(scene())


@pytest.mark.parametrize("there", [deaf, None], ids=["stands still", "refuses"])
def test_a_machine_that_takes_or_refuses_a_connection_is_there(
    there: Callable[[Key], AbstractContextManager[None]] | None,
) -> None:
    async def scene() -> None:
        async with polling(ONE) as (coordinators, _):
            with coordinator(ONE):
                await until(lambda: coordinators.newest(ONE))
            with there(ONE) if there else ExitStack():
                await until(lambda: coordinators.newest(ONE) is None)
                assert coordinators.unreached_s(ONE) == 0

    asyncio.run(scene())


def test_the_successor_of_one_that_does_not_answer_is_asked_at_once() -> None:
    async def scene() -> None:
        async with polling(ONE) as (coordinators, _):
            await until(lambda: ONE in coordinators._missed and ONE not in coordinators._busy)
            coordinators._next[ONE] = coordinators._now() + 1000
            with coordinator(ONE):
                coordinators.hurry(ONE)
                await asyncio.sleep(0.3)
                assert coordinators.newest(ONE) is None, "what happens to its pod makes it no likelier to answer"
                coordinators._cache.stores["Pod"].put(view_of("Pod", cached(ONE, attempt=2)["Pod"]))
                coordinators.hurry(ONE)
                await until(lambda: coordinators.newest(ONE))

    asyncio.run(scene())


def test_one_that_was_never_heard_may_be_out_of_our_sight() -> None:
    async def scene() -> None:
        async with polling(ONE) as (coordinators, changed):
            with nothing(ONE):
                await until(lambda: changed)
                assert coordinators.unreached_s(ONE) == 0

    asyncio.run(scene())


@pytest.mark.parametrize(("code", "gone"), [(errno.EHOSTUNREACH, True), (errno.ECONNREFUSED, False)])
def test_the_kernels_word_counts(code: int, gone: bool) -> None:
    key = aiohttp.client_reqrep.ConnectionKey("h", 1, False, True, None, None, None)
    assert no_machine(aiohttp.ClientConnectorError(key, OSError(code, "as it is"))) is gone


def test_a_decision_does_not_wait_for_a_coordinator_that_does_not_answer() -> None:
    async def play() -> None:
        with deaf(ONE):
            async with polling(ONE) as (coordinators, _):
                pod = view_of("Pod", cached(ONE)["Pod"])
                await until(lambda: coordinators._session is not None)
                assert not await asyncio.wait_for(coordinators.tell(pod, "/gone", {"host": "h0"}), 10 * TELL_S)
                assert coordinators._telling, "the word may still arrive"

    asyncio.run(play())


def test_no_more_are_asked_at_a_turn_than_its_share_and_those_first_that_wait_longest() -> None:
    async def play() -> None:
        share = round(PER_SECOND * TURN_S)
        keys = [Key("team", f"run-{number}") for number in range(3 * share)]
        cache = Cache(cast("Kube", None), (), lambda *_: None)
        for number, key in enumerate(keys):
            there = {"namespace": key.namespace}
            labels = names.pod_labels(key.name, "coordinator", 1)
            pod = {"metadata": {"name": names.coordinator_pod(key.name, 1), "labels": labels, **there},
                   "status": {"phase": "Running", "podIP": f"127.0.41.{number}"}}  # fmt: skip
            cache.stores["OPTTraining"].put(view_of("OPTTraining", {"metadata": {"name": key.name, **there}}))
            cache.stores["Pod"].put(view_of("Pod", pod))
        coordinators = HttpCoordinators(cache, lambda _: None)
        turns = [[key for key, _ in coordinators._due()] for _ in range(4)]
        assert [len(turn) for turn in turns] == [share, share, share, 0]
        assert {key for turn in turns for key in turn} == set(keys)
        coordinators._next |= {keys[0]: 0.2, keys[1]: 0.1}
        coordinators.hurry(keys[2])
        assert [key for key, _ in coordinators._due()] == [keys[2], keys[1], keys[0]]

    asyncio.run(play())


def test_an_address_of_either_family_is_asked() -> None:
    assert str(url("10.1.2.3", 7070, "/status")) == "http://10.1.2.3:7070/status"
    assert str(url("fd00::1", 7070, "/status")) == "http://[fd00::1]:7070/status"
