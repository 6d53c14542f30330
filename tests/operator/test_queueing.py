"""Gangs that wait for room: Kueue's pod groups, the scheduler's own PodGroup and Volcano's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from opt_api.training.spec import QueueSpec
from opt_operator.core.builders.queueing import (
    GROUP_LABEL,
    KUEUE,
    POD_GROUPS,
    QUEUE_LABEL,
    ROLE_HASH,
    TOTAL,
    VOLCANO,
    VOLCANO_GROUP,
    system_of,
)  # fmt: skip
from support.opmodel.harness import Perturbation, Process, fresh
from support.opmodel.scenarios import edit, submit
from support.opmodel.world import NS, World

pytestmark = pytest.mark.unit

NAMED, PLAIN, ALONE = {"queue_name": "team-a"}, {}, {"scheduler_gang": "none"}
TABLE = [
    (PLAIN, (), "none"),
    (PLAIN, (KUEUE,), "none"),
    (PLAIN, (POD_GROUPS,), "scheduler"),
    (PLAIN, (POD_GROUPS, VOLCANO, KUEUE), "scheduler"),
    (PLAIN, (VOLCANO,), "volcano"),
    (NAMED, (), "none"),
    (NAMED, (KUEUE, VOLCANO, POD_GROUPS), "kueue"),
    (NAMED, (VOLCANO, POD_GROUPS), "volcano"),
    (NAMED, (POD_GROUPS,), "scheduler"),
    (ALONE, (POD_GROUPS, VOLCANO), "none"),
    ({**NAMED, **ALONE}, (KUEUE,), "kueue"),
]


@pytest.mark.parametrize(("spec", "apis", "expected"), TABLE)
def test_who_is_asked_for_room(spec: dict[str, Any], apis: tuple[str, ...], expected: str) -> None:
    assert system_of(QueueSpec(**spec), apis) == expected


class Team:
    """A world with one training, seen by an operator that knows these APIs; Jobs are let go at once, as by a queue."""

    def __init__(self, apis: Iterable[str], **spec: Any) -> None:
        self.world: World = fresh()
        submit(self.world, **spec)
        self.apis = frozenset(apis)

    def run(self, ticks: int, *, admit: bool = True) -> None:
        asyncio.run(self._run(ticks, admit=admit))

    async def _run(self, ticks: int, *, admit: bool) -> None:
        process = Process(self.world, Perturbation())
        await process.start()
        process.loop._gatherer.apis = self.apis
        for _ in range(ticks):
            if admit:
                for job in self.world.api.of("Job"):
                    self.world.api.edit("Job", NS, job["metadata"]["name"], lambda o: o["spec"].update(suspend=False))
            self.world.tick()
            await process.look()

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.world.api.objects["OPTTraining", NS, "small"]["status"]
        return found

    def pods(self, *roles: str) -> list[dict[str, Any]]:
        found = self.world.api.of("Pod")
        return [pod for pod in found if pod["metadata"]["labels"]["opt-operator.io/role"] in roles]


def test_kueue_admits_coordinator_gang_and_spares_as_one_group() -> None:
    team = Team([KUEUE], queueing={"queueName": "team-a", "priorityClass": "high"})
    team.run(32)
    assert team.status["phase"] == "Running"
    pods = team.pods("coordinator", "gang", "spare")
    assert {pod["metadata"]["labels"][QUEUE_LABEL] for pod in pods} == {"team-a"}
    assert {pod["metadata"]["labels"][GROUP_LABEL] for pod in pods} == {"small-hosts"}
    assert {pod["metadata"]["annotations"][TOTAL] for pod in pods} == {"4"} == {str(len(pods))}
    assert [pod["metadata"]["annotations"][ROLE_HASH] for pod in team.pods("coordinator")] == ["coordinator"]
    assert {pod["metadata"]["annotations"][ROLE_HASH] for pod in team.pods("gang", "spare")} == {"host"}
    assert {pod["spec"]["priorityClassName"] for pod in pods} == {"high"}


def test_a_replaced_pod_and_a_later_spare_keep_the_group_whole() -> None:
    team = Team([KUEUE], queueing={"queueName": "team-a"})
    team.run(32)
    lost = team.pods("spare")[0]
    team.world.lose(lost["spec"]["nodeName"])
    team.run(25)
    edit(team.world, resilience={"spares": 2})
    team.run(20)
    alive = [p for p in team.pods("coordinator", "gang", "spare") if p["spec"]["nodeName"] not in team.world.lost]
    groups = [pod["metadata"]["labels"][GROUP_LABEL] for pod in alive]
    totals = {pod["metadata"]["labels"][GROUP_LABEL]: pod["metadata"]["annotations"][TOTAL] for pod in alive}
    assert groups.count("small-hosts") == 4
    assert totals == {"small-hosts": "4", "small-hosts-3": "1"}


def test_a_job_in_a_queue_waits_until_it_is_let_go() -> None:
    team = Team([KUEUE], queueing={"queueName": "team-a"})
    team.run(10, admit=False)
    (job,) = team.world.api.of("Job")
    assert job["metadata"]["labels"][QUEUE_LABEL] == "team-a"
    assert job["spec"]["suspend"] is True
    assert team.pods("dataprep") == []
    edit(team.world, suspend=True)
    team.run(5, admit=False)
    assert team.world.api.of("Job") == []  # Kueue would let a suspended one go again
    edit(team.world, suspend=False)
    team.run(40)
    assert team.status["phase"] == "Running"


@pytest.mark.parametrize(
    ("apis", "spec"),
    [
        ([POD_GROUPS], {"schedulingPolicy": {"gang": {"minCount": 2}}}),
        ([VOLCANO], {"minMember": 2}),
    ],
)
def test_the_gang_has_a_pod_group_before_its_first_pod(apis: list[str], spec: dict[str, Any]) -> None:
    team = Team(apis)
    team.run(32)
    history = team.world.api.history
    (group,) = team.world.api.of("PodGroup")
    assert group["spec"] == spec
    assert group["metadata"]["ownerReferences"][0]["kind"] == "OPTTraining"
    assert history.index("apply PodGroup small-hosts opt-workload") < history.index("create Pod small-a2-h0")
    for pod in team.pods("gang", "spare"):
        named = pod["spec"].get("schedulingGroup", {}).get("podGroupName")
        annotated = pod["metadata"].get("annotations", {}).get(VOLCANO_GROUP)
        assert (named or annotated) == "small-hosts"
        assert pod["spec"].get("schedulerName") == ("volcano" if apis == [VOLCANO] else None)
    (leader,) = team.pods("coordinator")
    assert "schedulingGroup" not in leader["spec"]


def test_a_queue_that_nobody_keeps_is_said_and_nothing_is_made() -> None:
    team = Team([], queueing={"queueName": "team-a"})
    team.run(5)
    assert team.status["phase"] == "Queued"
    degraded = next(c for c in team.status["conditions"] if c["type"] == "Degraded")
    assert degraded["reason"] == "NoQueue"
    assert "queueing.queueName: found team-a" in degraded["message"]
    assert team.world.api.of("Job") == team.world.api.of("Pod") == []
    team.apis = frozenset([KUEUE])
    team.run(40)
    assert team.status["phase"] == "Running"
