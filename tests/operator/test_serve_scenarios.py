"""Every scenario of a served model once, undisturbed, and then once more on the same snapshot."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from opt_api.serving.status import GateStatus
from opt_operator.core.actions import Delete
from opt_operator.core.serving.decide import decide
from opt_operator.core.serving.snapshot import ServeSnapshot
from opt_operator.core.serving.views import EndpointState
from support.opmodel.serve_harness import SERVE, Perturbation, Process, Run, play
from support.opmodel.serve_scenarios import SCENARIOS, TWO_HOSTS, create, end_of, run_of
from support.opmodel.serve_world import ServeWorld, fresh

pytestmark = pytest.mark.integration
ALWAYS_SERVED = ("create", "newer", "quick", "unfit", "erring", "late-error", "other-spec", "pinned", "replica-killed")


def played(name: str) -> ServeWorld:
    return play(run_of(name))


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_ends_as_it_should(name: str) -> None:
    world = played(name)
    found = end_of(world)
    assert {key: found[key] for key in SCENARIOS[name].end} == SCENARIOS[name].end
    if name in ALWAYS_SERVED:
        assert not world.unserved


def settled(name: str) -> ServeSnapshot:
    world = played(name)

    async def look() -> Any:
        process = Process(world, Perturbation())
        await process.start()
        return process.loop._gatherer.snapshot(SERVE, 0.0, "")

    return cast("ServeSnapshot", asyncio.run(look()))


@pytest.mark.parametrize("name", ["create", "newer", "unfit", "asleep", "training-gone"])
def test_nothing_is_written_when_nothing_happens(name: str) -> None:
    decision = decide(settled(name))
    assert decision.actions == ()
    assert decision.status is None


def test_without_leader_worker_sets_in_the_cluster_it_says_so_and_makes_none() -> None:
    lacking = fresh()
    lacking.apis = frozenset()
    world = play(Run(lacking, partial(create, engine=TWO_HOSTS), 30))
    assert world.api.of("LeaderWorkerSet") == []
    status = world.api.objects["OPTServe", SERVE.namespace, SERVE.name]["status"]
    (degraded,) = (c for c in status["conditions"] if c["type"] == "Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "NoLeaderWorkerSet")
    assert "spec.engine.hostsPerReplica: found 2" in degraded["message"]


def test_while_a_gate_runs_a_look_that_is_due_is_no_reason_to_hurry() -> None:
    snapshot = settled("create")
    assert snapshot.status.source
    source = snapshot.status.source.model_copy(update={"next_look": snapshot.now})
    gate = GateStatus(number=9, state="Running")
    running = replace(snapshot, status=snapshot.status.model_copy(update={"source": source, "gate": gate}))
    assert decide(running).requeue_after > 1.0


def reported(snapshot: ServeSnapshot, words: dict[str, EndpointState]) -> ServeSnapshot:
    """All gateways say this of replicas, by pod."""
    addresses = {f"{pod.status.pod_ip}:8000": words[pod.metadata.name] for pod in snapshot.replicas}
    reports = {name: r.model_copy(update={"endpoints": addresses}) for name, r in snapshot.gateways.items()}
    return replace(snapshot, gateways=reports)


@pytest.mark.parametrize(("other", "deleted"), [("Ready", 1), ("Unreached", 0), ("Silent", 0)])
def test_a_replica_that_no_gateway_reaches_goes_before_its_node_is_found_lost(other: Any, deleted: int) -> None:
    """Where gateways reach no other one, it may be they who are cut off."""
    snapshot = settled("node-lost")
    lost, kept = (pod.metadata.name for pod in snapshot.replicas)
    actions = decide(reported(snapshot, {lost: "Unreached", kept: other})).actions
    gone = [(a.name, a.grace_s) for a in actions if isinstance(a, Delete)]
    assert gone == [(lost, 0)] * deleted


def test_a_gateway_at_whose_address_nothing_is_goes_at_once() -> None:
    snapshot = settled("create")
    lost = snapshot.gateway_pods[0].metadata.name
    actions = decide(replace(snapshot, unreached=frozenset({lost}))).actions
    assert [(a.name, a.grace_s) for a in actions if isinstance(a, Delete)] == [(lost, 0)]
