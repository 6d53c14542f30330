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
    if world.at(0):
        world.lose(_node_of(world, 0))


def coordinator_loss(world: World, tick: int) -> None:
    create(world, tick)
    if world.at(0) and (leader := world.coordinator()):
        world.lose(world.api.objects["Pod", NS, leader]["spec"]["nodeName"])


def two_losses(world: World, tick: int) -> None:
    node_loss(world, tick)
    if world.at(2):
        world.lose(_node_of(world, 1))


def drain(world: World, tick: int) -> None:
    create(world, tick)
    if world.at(0):
        world.api.edit("Node", "", _node_of(world, 1), lambda n: n["spec"].update(unschedulable=True))


def spot(world: World, tick: int) -> None:
    create(world, tick)
    if world.at(0):
        notice = {"key": "aws-node-termination-handler/spot-itn", "value": "x", "effect": "NoSchedule"}
        world.api.edit("Node", "", _node_of(world, 1), lambda n: n["spec"].update(taints=[notice]))


def out_of_memory(world: World, tick: int) -> None:
    create(world, tick)
    if world.at(0):
        world.end(_host_in(world, 0), 137, reason="OOMKilled")


def stuck_terminating(world: World, tick: int) -> None:
    """A kubelet that answers and never ends a pod: a mount that hangs, a process that cannot be killed."""
    create(world, tick)
    if world.at(0):
        name = _host_in(world, 0)
        world.stuck.add(name)
        world.api.remove("Pod", NS, name, 5)


def finish_and_go(world: World, tick: int) -> None:
    world.total_steps = 6
    if tick == 1:
        submit(world, ttlSecondsAfterFinished=10)


def crash(world: World, tick: int) -> None:
    create(world, tick)
    if world.at(0):
        world.end(_host_in(world, 0), 1, "an error of its own")


def bad_machine(world: World, tick: int) -> None:
    create(world, tick)
    if world.at(0):
        world.condemn(_host_in(world, 0))


def suspected(world: World, tick: int) -> None:
    """The coordinator trusts a machine no more, but would take it again with a new agent."""
    create(world, tick)
    if world.at(0):
        world.suspected.add(_host_in(world, 0))


def renamed_machine(world: World, tick: int) -> None:
    """A bad machine is taken away and handed back under another name; it is as bad as before."""
    bad_machine(world, tick)
    world.fail_stage["burn-in"] = 1
    if world.at(2):
        old = world.api.objects["Node", "", "n1"]
        world.api.remove("Node", "", "n1")
        world.add_node("handed-back", old["spec"]["providerID"])


def suspend(world: World, tick: int) -> None:
    create(world, tick)
    if world.at(0):
        edit(world, suspend=True)


def resume(world: World, tick: int) -> None:
    suspend(world, tick)
    if world.at(17):
        edit(world, suspend=False)


def live_change(world: World, tick: int) -> None:
    create(world, tick)
    world.journal.values = world.journal.values or {"learningRate": 1e-3, "clip": 1.0, "skipBatches": []}
    if world.at(0):
        edit(world, optimisation={**document()["spec"]["optimisation"], "learningRate": 5e-4})


def delete(world: World, tick: int) -> None:
    create(world, tick)
    if world.at(0):
        world.api.remove("OPTTraining", NS, "small")


def disaster(world: World, tick: int) -> None:
    create(world, tick)
    if world.at(0):
        for kind, namespace, name in list(world.api.objects):
            if kind != "Node" and (kind, namespace, name) in world.api.objects:
                world.api.remove(kind, namespace, name, 0)
        world.heard.clear()
    if world.at(2):
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
    """A script, and what must be true in the end.

    Attributes:
        after: Seconds that must have passed since the gang was at work; of a run that never is, since the beginning.
    """

    script: Script
    after: int
    end: dict[str, Any]


HOSTS = ["0", "1", "2", "coordinator"]
RUNNING = {"phase": "Running", "run": ("running", 2, False), "gang": 2}
NOTHING = {"there": False, "pods": [], "jobs": [], "others": []}
SCENARIOS: dict[str, Scenario] = {
    "create": Scenario(create, 3, {**RUNNING, "pods": HOSTS}),
    "finish": Scenario(finish, 20, {"phase": "Succeeded", "pods": []}),
    "ttl": Scenario(finish_and_go, 25, NOTHING),
    "node-loss": Scenario(node_loss, 20, RUNNING),
    "coordinator-loss": Scenario(coordinator_loss, 20, RUNNING),
    "coordinator-moves": Scenario(create, 65, {**RUNNING, "pods": HOSTS, "exposed": False}),
    "two-losses": Scenario(two_losses, 30, RUNNING),
    "drain": Scenario(drain, 10, RUNNING),
    "spot": Scenario(spot, 10, RUNNING),
    "stuck-terminating": Scenario(stuck_terminating, 45, {**RUNNING, "going": []}),
    "crash": Scenario(crash, 10, RUNNING),
    "out-of-memory": Scenario(out_of_memory, 10, RUNNING),
    "bad-machine": Scenario(bad_machine, 20, {**RUNNING, "jobs": [], "tainted": []}),
    "suspected": Scenario(suspected, 15, {**RUNNING, "pods": HOSTS, "suspected": []}),
    "renamed-machine": Scenario(renamed_machine, 25, RUNNING),
    "suspend": Scenario(suspend, 8, {"phase": "Suspended", "pods": []}),
    "resume": Scenario(resume, 25, RUNNING),
    "live-change": Scenario(live_change, 8, {**RUNNING, "pods": HOSTS, "rate": 5e-4}),
    "delete": Scenario(delete, 5, NOTHING),
    "disaster": Scenario(disaster, 20, {**RUNNING, "pods": HOSTS}),
    "bad-data": Scenario(bad_data, 20, {"phase": "Failed", "pods": []}),
    "flaky-data": Scenario(flaky_data, 3, {**RUNNING, "pods": HOSTS}),
}


def run_of(
    name: str, trouble: Perturbation | None = None, die_at: int | None = None, end: dict[str, Any] | None = None
) -> Run:
    """A run of a scenario in a new world; it is over when it has come to the end, or never will."""
    scenario = SCENARIOS[name]
    return Run(fresh(), scenario.script, scenario.after, end or scenario.end, trouble or Perturbation(), die_at)
