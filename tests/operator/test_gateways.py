"""Gateways are polled over real connections: what they say, and at whose address nothing is any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import cast

import pytest

from opt_operator.core.serving import names
from opt_operator.core.serving.builders.gateway import ADMIN_PORT
from opt_operator.core.snapshot import Key
from opt_operator.shell.cache import Cache, view_of
from opt_operator.shell.gateways import HttpGateways
from opt_operator.shell.kube import Kube
from support.addresses import answering, beside, deaf, nothing, until

pytestmark = pytest.mark.integration

KEY = Key("team", "model", "OPTServe")
ADDRESSES = {"one": "127.0.41.1", "other": "127.0.41.2"}


def gateway(name: str) -> AbstractContextManager[None]:
    return answering(ADDRESSES[name], ADMIN_PORT, {"generation": 1, "inFlight": 2})


@asynccontextmanager
async def polling() -> AsyncIterator[tuple[HttpGateways, list[Key]]]:
    cache, changed = Cache(cast("Kube", None), (), lambda *_: None), list[Key]()
    there = {"namespace": KEY.namespace}
    cache.stores["OPTServe"].put(view_of("OPTServe", {"metadata": {"name": KEY.name, **there}}))
    for name, address in ADDRESSES.items():
        metadata = {"name": name, "uid": name, "labels": names.labels(KEY.name, "gateway"), **there}
        status = {"phase": "Running", "podIP": address}
        cache.stores["Pod"].put(view_of("Pod", {"metadata": metadata, "status": status}))
    gateways = HttpGateways(cache, changed.append)
    async with beside(gateways.run()):
        yield gateways, changed


def test_nothing_at_a_gateways_address_is_said_at_once_while_another_answers() -> None:
    async def scene() -> None:
        async with polling() as (gateways, changed):
            with gateway("other"):
                with gateway("one"):
                    await until(lambda: set(gateways.reports(KEY)) == {"one", "other"})
                    assert gateways.reports(KEY)["one"].in_flight == 2
                    assert gateways.unreached(KEY) == frozenset()
                changed.clear()
                with nothing(ADDRESSES["one"], ADMIN_PORT):
                    await until(lambda: gateways.unreached(KEY) == {"one"})
                    assert changed
                with gateway("one"):
                    await until(lambda: not gateways.unreached(KEY))

    asyncio.run(scene())


def test_where_no_other_is_heard_either_it_is_we_who_do_not_see() -> None:
    async def scene() -> None:
        async with polling() as (gateways, changed):
            with gateway("one"), gateway("other"):
                await until(lambda: len(gateways.reports(KEY)) == 2)
            changed.clear()
            with nothing(ADDRESSES["one"], ADMIN_PORT), nothing(ADDRESSES["other"], ADMIN_PORT):
                await until(lambda: len(changed) >= 2)
                assert gateways.unreached(KEY) == frozenset()

    asyncio.run(scene())


@pytest.mark.parametrize("there", [deaf, None], ids=["stands still", "was never heard"])
def test_doubt_is_not_enough(there: Callable[[str, int], AbstractContextManager[None]] | None) -> None:
    """A machine that takes connections is there; one that was never heard may be out of our sight."""

    async def scene() -> None:
        async with polling() as (gateways, changed):
            with gateway("other"):
                if there is not None:
                    with gateway("one"):
                        await until(lambda: len(gateways.reports(KEY)) == 2)
                    with there(ADDRESSES["one"], ADMIN_PORT):
                        await until(lambda: set(gateways.reports(KEY)) == {"other"})
                        assert gateways.unreached(KEY) == frozenset()
                else:
                    with nothing(ADDRESSES["one"], ADMIN_PORT):
                        await until(lambda: changed.count(KEY) >= 3)
                        assert gateways.unreached(KEY) == frozenset()

    asyncio.run(scene())
