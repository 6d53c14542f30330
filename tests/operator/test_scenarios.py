"""Every scenario once, undisturbed, and then once more on the same snapshot."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from opt_operator.core.decide import decide
from opt_operator.core.snapshot import Snapshot
from support.opmodel.harness import end_of, play, snapshot_of
from support.opmodel.scenarios import SCENARIOS, run_of
from support.opmodel.world import NS, World

pytestmark = pytest.mark.integration


def settled(name: str) -> tuple[World, Snapshot]:
    world = play(run_of(name))
    return world, snapshot_of(world)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_ends_as_it_should(name: str) -> None:
    run = run_of(name)
    found = end_of(play(run))
    assert {key: found[key] for key in SCENARIOS[name].end} == SCENARIOS[name].end
    assert not run.doubled


@pytest.mark.parametrize("name", ["create", "finish", "suspend", "bad-data", "disaster"])
def test_nothing_is_written_when_nothing_happens(name: str) -> None:
    _, snapshot = settled(name)
    decision = decide(snapshot)
    assert decision.actions == ()
    assert decision.status is None


def test_the_same_snapshot_gives_the_same_decision() -> None:
    _, snapshot = settled("node-loss")
    later = replace(snapshot, now=snapshot.now + timedelta(hours=1), status_age_s=1e9)
    assert decide(later) == decide(later)


def test_a_finished_training_stays_finished_when_its_pods_vanish() -> None:
    world, snapshot = settled("finish")
    bare = replace(snapshot, pods=(), jobs=(), children=(), report=None)
    decision = decide(bare)
    assert decision.rule == "over"
    assert decision.actions == ()
    assert decision.status is None
    assert world.api.objects["OPTTraining", NS, "small"]["status"]["phase"] == "Succeeded"


def test_events_are_one_a_transition() -> None:
    world = play(run_of("node-loss"))
    reasons = [event["reason"] for event in world.api.of("Event")]
    assert sorted(set(reasons)) == sorted(
        {"Preparing", "Starting", "Running", "Started", "Unreached", "NodeLost", "Recovering"}
    )
    assert reasons.count("Running") == 2  # before and after the loss
    assert (reasons.count("Unreached"), reasons.count("NodeLost")) == (1, 1)  # the coordinator was on the same node


def test_a_coordinator_that_shares_a_node_with_the_gang_is_moved_once() -> None:
    world = play(run_of("create"))
    assert world.exposed()
    world = play(run_of("coordinator-moves"))
    reasons = [event["reason"] for event in world.api.of("Event")]
    assert (reasons.count("Exposed"), reasons.count("Recovering"), world.exposed()) == (1, 0, False)


def test_losing_sight_of_everything_restarts_nothing() -> None:
    """Nodes unseen and the coordinator unheard for an hour: no pod is touched."""
    _, snapshot = settled("create")
    blind = replace(snapshot, nodes=None, report=None, now=snapshot.now + timedelta(hours=1), status_age_s=1e9)
    assert decide(blind).actions == ()


def test_one_source_is_not_enough_to_call_a_host_lost() -> None:
    """All nodes are said to be lost while the coordinator hears every agent."""
    _, snapshot = settled("create")
    assert snapshot.nodes is not None
    unknown = {
        name: node.model_copy(
            update={
                "status": node.status.model_copy(
                    update={
                        "conditions": tuple(c.model_copy(update={"status": "Unknown"}) for c in node.status.conditions)
                    }
                )
            }
        )
        for name, node in snapshot.nodes.items()
    }
    decision = decide(replace(snapshot, nodes=unknown))
    hosts = {pod.metadata.name for pod in snapshot.hosts}
    assert not [a for a in decision.actions if getattr(a, "name", "") in hosts]


def test_a_bad_machine_is_refused_under_another_name() -> None:
    """Neither host nor coordinator goes there, though it looks new to everybody else."""
    world, snapshot = settled("renamed-machine")
    there = [pod for pod in world.api.of("Pod") if pod["spec"].get("nodeName") == "handed-back"]
    assert {pod["metadata"]["labels"]["opt-operator.io/role"] for pod in there} <= {"burn-in"}
    (host,) = snapshot.status.hosts
    assert (host.state, host.hardware) == ("Quarantined", "cloud://machine-1")
