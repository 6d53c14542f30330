"""Who leads: one at a time, by a Lease, and whoever is overtaken finds out by the term that statuses carry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from opt_operator.shell import lease as module
from opt_operator.shell.apply import Applier, NotLeadingError
from opt_operator.shell.kube import ApiFault
from opt_operator.shell.lease import Lease
from support.opmodel.api import ModelApi
from support.opmodel.harness import KEY, Perturbation, Process, fresh
from support.opmodel.scenarios import submit
from support.opmodel.world import NS

pytestmark = pytest.mark.unit


def lease(api: ModelApi, who: str, **options: Any) -> Lease:
    kube: Any = api
    return Lease(kube, NS, "opt", who, **options)


def played(play: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(play())


def spec(api: ModelApi) -> dict[str, Any]:
    found: dict[str, Any] = api.objects["Lease", NS, "opt"]["spec"]
    return found


def given(api: ModelApi) -> None:
    """The Lease as the chart makes it: empty."""
    meta = {"name": "opt", "namespace": NS}
    api.put_new("Lease", {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta})


def test_a_given_lease_is_waited_for_and_never_made() -> None:
    async def play() -> None:
        api = ModelApi()
        one = lease(api, "one", make=False)
        assert not await one._try()
        assert ("Lease", NS, "opt") not in api.objects
        given(api)
        assert await one._try()
        assert (spec(api)["holderIdentity"], one.transitions) == ("one", 1)

    played(play)


def test_the_token_grows_with_each_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        api = ModelApi()
        given(api)
        one, two = lease(api, "one"), lease(api, "two")
        assert await one._try()
        assert not await two._try()
        await asyncio.sleep(0.05)
        assert await two._try()  # it has not renewed for longer than its time
        assert not await one._try()
        assert two.transitions == one.transitions + 1 == spec(api)["leaseTransitions"]

    monkeypatch.setattr(module, "DURATION_S", 0.01)
    played(play)


def test_a_lease_made_anew_goes_on_from_the_terms_that_statuses_remember() -> None:
    async def play() -> None:
        api = ModelApi()
        one = lease(api, "one")
        assert await one._try()
        await one.raise_to(42)
        assert one.transitions == spec(api)["leaseTransitions"] == 42
        await one.raise_to(7)
        assert one.transitions == 42

    played(play)


def test_one_that_was_overtaken_writes_nothing_whatever_its_clock_says() -> None:
    async def play() -> None:
        world = fresh()
        submit(world)
        api: Any = world.api
        process = Process(world, Perturbation())
        leader = lease(world.api, "old")
        await leader._try()
        leader._until, leader.transitions = asyncio.get_running_loop().time() + 1000, 3
        process.loop._applier = Applier(
            api,
            world,
            process.writes,
            process.record,
            "old",
            leader.valid,
            lambda: leader.transitions,
            leader.superseded,
        )
        await process.start()
        await process.look()
        assert world.api.objects["OPTTraining", NS, "small"]["status"]["operatorTerm"] == 3
        world.api.edit("OPTTraining", NS, "small", lambda o: o["status"].update(operatorTerm=4))
        await process._hear()
        count = len(world.api.history)
        world.api.edit("OPTTraining", NS, "small", lambda o: o["spec"].update(suspend=True))
        await process._hear()
        with pytest.raises(NotLeadingError):
            await process.look()
        assert not leader.valid()
        assert len(world.api.history) == count

    played(play)


def test_an_unreachable_server_is_no_reason_to_give_up_before_time() -> None:
    async def play() -> None:
        api = ModelApi()
        one = lease(api, "one")

        def refuse(_: str) -> None:
            raise ApiFault(0, "nobody answers")

        assert await one._try()
        api.before_write = refuse
        with pytest.raises(ApiFault):
            await one._try()
        assert spec(api)["holderIdentity"] == "one"

    played(play)


def test_workers_outlive_a_moment_without_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal that came late must not leave a leader that decides nothing any more."""

    async def play() -> None:
        world = fresh()
        submit(world)
        process = Process(world, Perturbation())
        await process.start()
        may = False
        monkeypatch.setattr(process.loop._applier, "_may_write", lambda: may)
        work = asyncio.create_task(process.loop.run())
        process.loop._queue.add(KEY)
        await asyncio.sleep(0.05)
        assert "status" not in world.api.objects["OPTTraining", NS, "small"]
        may = True
        for _ in range(200):
            await asyncio.sleep(0.01)
            if "status" in world.api.objects["OPTTraining", NS, "small"]:
                break
        assert not work.done()
        work.cancel()
        assert world.api.objects["OPTTraining", NS, "small"]["status"]["phase"] == "Preparing"

    played(play)


def test_a_renewal_that_is_stuck_is_given_up_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRY_S", 0.05)
    monkeypatch.setattr(module, "AGAIN_S", 0.01)

    async def play() -> None:
        api = ModelApi()
        given(api)
        one, tries = lease(api, "one"), 0
        whole = one._try

        async def stuck_at_first() -> bool:
            nonlocal tries
            tries += 1
            if tries == 1:
                await asyncio.sleep(60)
            return await whole()

        monkeypatch.setattr(one, "_try", stuck_at_first)
        running = asyncio.create_task(one.run())
        await asyncio.wait_for(one.held.wait(), 5)
        running.cancel()
        assert (tries, one.valid()) == (2, True)

    played(play)


def test_it_is_renewed_in_one_request_and_read_again_where_somebody_else_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        api = ModelApi()
        given(api)
        one = lease(api, "one")
        assert await one._try()
        reads = 0
        get = api.get

        async def counted(*args: Any) -> Any:
            nonlocal reads
            reads += 1
            return await get(*args)

        monkeypatch.setattr(api, "get", counted)
        assert await one._try()
        assert reads == 0
        api.edit("Lease", NS, "opt", lambda o: o["metadata"].update(labels={"touched": "by hand"}))
        assert await one._try()
        assert (reads, one.transitions) == (1, 1)
        del api.objects["Lease", NS, "opt"]
        assert await one._try(), "made anew"

    played(play)
