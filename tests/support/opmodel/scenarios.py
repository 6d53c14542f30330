"""What happens to a training, second by second: the scenarios of the sweeps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.opmodel.harness import Perturbation, Run, fresh
from support.opmodel.world import NS, World
from support.small_spec import SPEC

Script = Callable[[World, int], None]


def document(**spec: Any) -> dict[str, Any]:
    """The small training, in a cluster."""
    made = copy.deepcopy(SPEC)
    made["metadata"] |= {"namespace": NS}
    s3 = {"endpoint": "http://store:9000", "bucket": "bucket", "credentialsSecret": "keys"}
    made["spec"] |= {"storage": {"s3": s3}, "resilience": {"spares": 1}, **spec}
    return made


def submit(world: World, **spec: Any) -> None:
    world.api.put_new("OPTTraining", document(**spec))


def edit(world: World, **spec: Any) -> None:
    world.api.edit("OPTTraining", NS, "small", lambda o: o["spec"].update(copy.deepcopy(spec)))


def create(world: World, tick: int) -> None:
    if tick == 1:
        submit(world)


def finish(world: World, tick: int) -> None:
    world.total_steps = 6
    create(world, tick)


def node_loss(world: World, tick: int) -> None:
    create(world, tick)
    if tick == 28:
        world.lose(_node_of(world, 0))


def coordinator_loss(world: World, tick: int) -> None:
    create(world, tick)
    if tick == 28 and (leader := world.coordinator()):
        world.lose(world.api.objects["Pod", NS, leader]["spec"]["nodeName"])


def two_losses(world: World, tick: int) -> None:
    node_loss(world, tick)
    if tick == 30:
        world.lose(_node_of(world, 1))


def drain(world: World, tick: int) -> None:
    create(world, tick)
    if tick == 28:
        world.api.edit("Node", "", _node_of(world, 1), lambda n: n["spec"].update(unschedulable=True))


def spot(world: World, tick: int) -> None:
    create(world, tick)
    if tick == 28:
        notice = {"key": "aws-node-termination-handler/spot-itn", "value": "x", "effect": "NoSchedule"}
        world.api.edit("Node", "", _node_of(world, 1), lambda n: n["spec"].update(taints=[notice]))


def out_of_memory(world: World, tick: int) -> None:
    create(world, tick)
    if tick == 28:
        world.end(_host_in(world, 0), 137, reason="OOMKilled")


def finish_and_go(world: World, tick: int) -> None:
    world.total_steps = 6
    if tick == 1:
        submit(world, ttlSecondsAfterFinished=10)


def crash(world: World, tick: int) -> None:
    create(world, tick)
    if tick == 28:
        world.end(_host_in(world, 0), 1, "an error of its own")


def bad_machine(world: World, tick: int) -> None:
    create(world, tick)
    if tick == 28:
        world.condemn(_host_in(world, 0))


def suspend(world: World, tick: int) -> None:
    create(world, tick)
    if tick == 28:
        edit(world, suspend=True)


def resume(world: World, tick: int) -> None:
    suspend(world, tick)
    if tick == 45:
        edit(world, suspend=False)


def live_change(world: World, tick: int) -> None:
    create(world, tick)
    world.journal.values = world.journal.values or {"learningRate": 1e-3, "clip": 1.0, "skipBatches": []}
    if tick == 28:
        edit(world, optimisation={**document()["spec"]["optimisation"], "learningRate": 5e-4})


def delete(world: World, tick: int) -> None:
    create(world, tick)
    if tick == 28:
        world.api.remove("OPTTraining", NS, "small")


def disaster(world: World, tick: int) -> None:
    create(world, tick)
    if tick == 28:
        for kind, namespace, name in list(world.api.objects):
            if kind != "Node" and (kind, namespace, name) in world.api.objects:
                world.api.remove(kind, namespace, name, 0)
        world.heard.clear()
    if tick == 30:
        submit(world)


def bad_data(world: World, tick: int) -> None:
    create(world, tick)
    if tick == 0:
        world.fail_stage["read"] = 65


def flaky_data(world: World, tick: int) -> None:
    create(world, tick)
    if tick == 0:
        world.fail_stage["read"] = 69


def _host_in(world: World, slot: int) -> str:
    pods = [p for p in world.api.of("Pod") if p["metadata"]["labels"].get("opt-operator.io/slot") == str(slot)]
    return pods[-1]["metadata"]["name"]


def _node_of(world: World, slot: int) -> str:
    return world.api.objects["Pod", NS, _host_in(world, slot)]["spec"]["nodeName"]


@dataclass(frozen=True)
class Scenario:
    """A script, how long it takes to settle, and what must be true then."""

    script: Script
    ticks: int
    end: dict[str, Any]
    event: int = 0
    """Tick of what is special about it; until then it goes as in any other."""


HOSTS = ["coordinator-", "gang-0", "gang-1", "spare-2"]
RUNNING = {"phase": "Running", "run": ("running", 2, False)}
SCENARIOS: dict[str, Scenario] = {
    "create": Scenario(create, 32, {**RUNNING, "pods": HOSTS}),
    "finish": Scenario(finish, 50, {"phase": "Succeeded", "pods": []}),
    "node-loss": Scenario(node_loss, 55, RUNNING, event=28),
    "coordinator-loss": Scenario(coordinator_loss, 60, RUNNING, event=28),
    "two-losses": Scenario(two_losses, 70, RUNNING, event=28),
    "drain": Scenario(drain, 48, RUNNING, event=28),
    "spot": Scenario(spot, 48, RUNNING, event=28),
    "out-of-memory": Scenario(out_of_memory, 50, RUNNING, event=28),
    "ttl": Scenario(finish_and_go, 60, {"there": False, "pods": [], "jobs": [], "others": []}, event=20),
    "crash": Scenario(crash, 50, RUNNING, event=28),
    "bad-machine": Scenario(bad_machine, 62, {**RUNNING, "jobs": [], "tainted": []}, event=28),
    "suspend": Scenario(suspend, 42, {"phase": "Suspended", "pods": []}, event=28),
    "resume": Scenario(resume, 65, RUNNING, event=28),
    "live-change": Scenario(live_change, 40, {**RUNNING, "pods": HOSTS}, event=28),
    "delete": Scenario(delete, 36, {"there": False, "pods": [], "jobs": [], "others": []}, event=28),
    "disaster": Scenario(disaster, 55, {**RUNNING, "pods": HOSTS}, event=28),
    "bad-data": Scenario(bad_data, 24, {"phase": "Failed", "pods": []}),
    "flaky-data": Scenario(flaky_data, 45, {**RUNNING, "pods": HOSTS}),
}


def run_of(name: str, trouble: Perturbation | None = None, die_at: int | None = None) -> Run:
    """A run of a scenario in a new world; more time where there is trouble."""
    scenario = SCENARIOS[name]
    extra = 60 if trouble else 12 if die_at is not None else 0
    return Run(fresh(), scenario.script, scenario.ticks + extra, trouble or Perturbation(), die_at)
