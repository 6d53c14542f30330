"""The record of why: written beside the work, in as few writes as can be, until it is written."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from opt_operator.core.actions import Apply, Decision, Delete
from opt_operator.core.snapshot import Snapshot
from opt_operator.shell.kube import ApiFault
from opt_operator.shell.record import KEPT, TOLD_ALONE, TOLD_NAMES, Record
from support.opmodel.harness import KEY, Perturbation, Process, fresh
from support.opmodel.scenarios import submit
from support.opmodel.world import NS

pytestmark = pytest.mark.unit
MAP = ("ConfigMap", NS, "small-why")


async def looking() -> tuple[Process, Snapshot]:
    """An operator that sees a training for the first time, and has decided nothing yet."""
    world = fresh()
    submit(world)
    process = Process(world, Perturbation())
    await process.start()
    snapshot = process.loop._gatherer.snapshot(KEY, 0.0, "")
    assert isinstance(snapshot, Snapshot)
    return process, snapshot


def deleted(number: int) -> Decision:
    return Decision("run", (Delete("Pod", f"pod-{number}", f"uid-{number}", None, "its node is lost"),))


def rules(process: Process) -> list[str]:
    data = process.world.api.objects[MAP]["data"]
    return [entry["done"][0] for entry in json.loads(data["decisions"])]


def test_what_was_decided_before_a_write_is_one_write_and_what_says_nothing_new_is_none() -> None:
    async def play() -> None:
        process, snapshot = await looking()
        for number in (1, 2, 2, 3):
            process.record.keep(snapshot, deleted(number))
        assert MAP not in process.world.api.objects
        assert await process.record.flush()
        assert rules(process) == [f"delete Pod pod-{number}: its node is lost" for number in (1, 2, 3)]
        count = len(process.world.api.history)
        await process._hear()
        process.record.keep(snapshot, deleted(3))
        assert await process.record.flush()
        assert len(process.world.api.history) == count

    asyncio.run(play())


def test_the_next_write_waits_until_the_cache_has_seen_the_last_and_holds_up_no_decision() -> None:
    async def play() -> None:
        process, snapshot = await looking()
        process.record.keep(snapshot, deleted(1))
        await process.record.flush()
        process.record.keep(snapshot, deleted(2))
        await process.record.flush()
        assert rules(process) == ["delete Pod pod-1: its node is lost"]
        assert not process.writes.unseen(KEY)
        await process._hear()
        await process.record.flush()
        assert len(rules(process)) == 2

    asyncio.run(play())


def test_a_refused_write_is_tried_again_with_what_came_meanwhile() -> None:
    def refuse(what: str) -> None:
        raise ApiFault(403, f"may not {what}")

    async def play() -> None:
        process, snapshot = await looking()
        api: Any = process.world.api
        allowed, api.before_write = api.before_write, refuse
        for number in range(KEPT + 5):
            process.record.keep(snapshot, deleted(number))
            assert not await process.record.flush()
        api.before_write = allowed
        assert await process.record.flush()
        assert rules(process)[0] == "delete Pod pod-5: its node is lost"
        assert len(rules(process)) == KEPT

    asyncio.run(play())


@pytest.mark.parametrize("decision", [Decision("deleting"), Decision("over", (Delete("OPTTraining", "small", "uid"),))])
def test_a_farewell_leaves_no_record_behind(decision: Decision) -> None:
    async def play() -> None:
        process, snapshot = await looking()
        process.record.keep(snapshot, decision)
        process.record.keep(replace(snapshot, resource=None), deleted(1))
        await process.record.flush()
        assert MAP not in process.world.api.objects

    asyncio.run(play())


def test_entries_of_a_training_that_is_gone_go_with_it() -> None:
    async def play() -> None:
        process, snapshot = await looking()
        process.record.keep(snapshot, deleted(1))
        process.cache.stores["OPTTraining"].drop(snapshot.resource)
        await process.record.flush()
        assert MAP not in process.world.api.objects

    asyncio.run(play())


def test_the_task_writes_soon_and_after_a_refusal_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opt_operator.shell.record.REFUSED_S", 0.01)
    refusals = iter([True, False])

    def refuse_once(what: str) -> None:
        if next(refusals, False):
            raise ApiFault(500, "no")

    async def play() -> None:
        process, snapshot = await looking()
        process.world.api.before_write = refuse_once
        task = asyncio.create_task(process.record.run())
        process.record.keep(snapshot, deleted(1))
        for _ in range(500):
            await asyncio.sleep(0.01)
            if MAP in process.world.api.objects:
                break
        task.cancel()
        assert rules(process) == ["delete Pod pod-1: its node is lost"]

    asyncio.run(play())


def test_it_lets_other_work_pass() -> None:
    async def play() -> None:
        process, snapshot = await looking()
        asked = 0

        def busy() -> bool:
            nonlocal asked
            asked += 1
            assert MAP not in process.world.api.objects
            return asked < 3

        api: Any = process.world.api
        record = Record(api, process.cache, "operator-1", lambda: True, process.writes, busy)
        task = asyncio.create_task(record.run())
        record.keep(snapshot, deleted(1))
        for _ in range(500):
            await asyncio.sleep(0.01)
            if MAP in process.world.api.objects:
                break
        task.cancel()
        assert asked == 3
        assert rules(process) == ["delete Pod pod-1: its node is lost"]

    asyncio.run(play())


def test_what_is_done_to_many_is_one_line_and_to_few_a_line_each() -> None:
    def applied(count: int) -> Decision:
        named = [f"pod-{number}" for number in range(count)]
        return Decision("run", tuple(Apply({"kind": "Pod", "metadata": {"name": one}}, "opt-role") for one in named))

    async def play() -> None:
        process, snapshot = await looking()
        for count in (TOLD_ALONE, TOLD_NAMES + 3):
            process.record.keep(snapshot, applied(count))
        await process.record.flush()
        few, many = (entry["done"] for entry in json.loads(process.world.api.objects[MAP]["data"]["decisions"]))
        assert few == [f"apply Pod pod-{number} as opt-role" for number in range(TOLD_ALONE)]
        (line,) = many
        assert line.startswith("apply Pod pod-0 as opt-role; likewise pod-1, pod-2, ")
        assert line.endswith(f", pod-{TOLD_NAMES} and 2 more")

    asyncio.run(play())
