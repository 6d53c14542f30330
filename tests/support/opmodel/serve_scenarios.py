"""What happens to a served model, second by second: the scenarios of its sweeps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.opmodel.serve_harness import SERVE, Perturbation, Run
from support.opmodel.serve_world import NS, TRAINING, ServeWorld, fresh
from support.small_spec import SPEC

Script = Callable[[ServeWorld, int], None]
TWO_HOSTS = {"name": "vllm", "tensorParallel": 2, "devicesPerReplica": 4, "hostsPerReplica": 2}


def training() -> dict[str, Any]:
    """What is followed."""
    made = copy.deepcopy(SPEC)
    made["metadata"] |= {"namespace": NS}
    made["spec"]["storage"] = {"s3": {"endpoint": "http://store:9000", "bucket": "bucket"}}
    return made


def document(**spec: Any) -> dict[str, Any]:
    """A served model that follows the small training."""
    rollout = {"canaryPercent": 20, "canarySeconds": 4, "drainSeconds": 30}
    base = {"source": {"training": {"name": TRAINING}}, "engine": {"device": "cpu", "weights": "float32"},
            "replicas": 2, "rollout": rollout}  # fmt: skip
    meta = {"name": SERVE.name, "namespace": NS}
    return {"apiVersion": "opt-operator.io/v1alpha1", "kind": "OPTServe", "metadata": meta, "spec": {**base, **spec}}


def edit(world: ServeWorld, **spec: Any) -> None:
    world.api.edit("OPTServe", NS, SERVE.name, lambda o: o["spec"].update(copy.deepcopy(spec)))


def create(world: ServeWorld, tick: int, **spec: Any) -> None:
    if tick == 1:
        world.api.put_new("OPTTraining", training())
        world.api.put_new("OPTServe", document(**spec))
    if tick == 4:
        world.publish(10)
    if tick == 20:
        world.demand = 4


def newer(world: ServeWorld, tick: int) -> None:
    create(world, tick)
    if tick == 26:
        world.publish(20)


def quick(world: ServeWorld, tick: int) -> None:
    """Checkpoints come faster than rolls end."""
    create(world, tick)
    if tick >= 24 and tick % 3 == 0 and tick <= 42:
        world.publish(tick)


def unfit(world: ServeWorld, tick: int) -> None:
    world.unfit = {20}
    newer(world, tick)


def erring(world: ServeWorld, tick: int) -> None:
    world.erring = {20}
    newer(world, tick)


def late_error(world: ServeWorld, tick: int) -> None:
    """It goes wrong only when all have it."""
    newer(world, tick)
    if tick == 42:
        world.erring = {20}


def asleep(world: ServeWorld, tick: int) -> None:
    create(world, tick, autoscaling={"minReplicas": 0, "maxReplicas": 3, "targetInFlight": 2,
                                     "scaleDownDelaySeconds": 5})  # fmt: skip
    if tick >= 20:
        world.demand = 5 if tick < 35 else 0


def awake(world: ServeWorld, tick: int) -> None:
    asleep(world, tick)
    if tick >= 60:
        world.demand = 3


def other_spec(world: ServeWorld, tick: int) -> None:
    create(world, tick)
    if tick == 26:
        edit(world, limits={"maxQueue": 7})


def pinned(world: ServeWorld, tick: int) -> None:
    """Back to a step that was served before."""
    newer(world, tick)
    if tick == 60:
        edit(world, source={"training": {"name": TRAINING, "checkpoint": "step", "step": 10}})


def replica_killed(world: ServeWorld, tick: int) -> None:
    create(world, tick)
    if tick == 26:
        world.kill("replica")


def node_lost(world: ServeWorld, tick: int) -> None:
    create(world, tick)
    if tick == 26:
        pods = [p for p in world.api.of("Pod") if p["metadata"]["labels"].get("opt-operator.io/role") == "replica"]
        world.lose(pods[0]["spec"]["nodeName"])


def training_gone(world: ServeWorld, tick: int) -> None:
    create(world, tick)
    if tick == 26:
        world.api.remove("OPTTraining", NS, TRAINING)
    if tick == 30:
        world.kill("replica")


def delete(world: ServeWorld, tick: int) -> None:
    newer(world, tick)
    if tick == 34:
        world.api.remove("OPTServe", NS, SERVE.name)


def flaky_gate(world: ServeWorld, tick: int) -> None:
    create(world, tick)
    if tick == 2:
        world.breakdowns = 1


def over_hosts(world: ServeWorld, tick: int) -> None:
    """Each replica is two pods; it rolls, and one of the two dies alone."""
    create(world, tick, engine=TWO_HOSTS)
    if tick == 26:
        world.publish(20)
    if tick == 60:
        world.kill("worker")


@dataclass(frozen=True)
class Scenario:
    """A script, how long it takes to settle, and what must be true then."""

    script: Script
    ticks: int
    end: dict[str, Any]


SERVING = {"phase": "Serving", "step": 10, "replicas": 2, "gateways": 2, "jobs": []}
ROLLED = {**SERVING, "step": 20, "previous": [10]}
SCENARIOS: dict[str, Scenario] = {
    "create": Scenario(create, 30, SERVING),
    "newer": Scenario(newer, 70, ROLLED),
    "quick": Scenario(quick, 110, {**SERVING, "step": 42}),
    "unfit": Scenario(unfit, 45, {**SERVING, "rejected": [20], "previous": []}),
    "erring": Scenario(erring, 70, {**SERVING, "rejected": [20], "previous": []}),
    "late-error": Scenario(late_error, 80, {**SERVING, "rejected": [20]}),
    "asleep": Scenario(asleep, 60, {**SERVING, "phase": "Asleep", "replicas": 0}),
    "awake": Scenario(awake, 85, {**SERVING, "replicas": 2}),
    "other-spec": Scenario(other_spec, 70, {**SERVING, "previous": [10]}),
    "pinned": Scenario(pinned, 110, {**SERVING, "previous": [20]}),
    "replica-killed": Scenario(replica_killed, 45, SERVING),
    "node-lost": Scenario(node_lost, 60, SERVING),
    "training-gone": Scenario(training_gone, 50, SERVING),
    "delete": Scenario(delete, 45, {"there": False, "replicas": 0, "gateways": 0, "jobs": [], "others": []}),
    "flaky-gate": Scenario(flaky_gate, 60, SERVING),
    "over-hosts": Scenario(over_hosts, 85, {**ROLLED, "workers": 2, "deployments": [0, 2, 2]}),
}


def run_of(name: str, trouble: Perturbation | None = None, die_at: int | None = None) -> Run:
    """A run of a scenario in a new world; more time where there is trouble."""
    scenario = SCENARIOS[name]
    extra = 130 if trouble else 15 if die_at is not None else 0
    return Run(fresh(), scenario.script, scenario.ticks + extra, trouble or Perturbation(), die_at)


def end_of(world: ServeWorld) -> dict[str, Any]:
    """What two runs of one scenario must agree on when they are over."""
    api = world.api
    resource = api.objects.get(("OPTServe", NS, SERVE.name))
    status = resource.get("status", {}) if resource else {}
    pods = [p for p in api.of("Pod") if world._alive(p)]
    roles = [p["metadata"]["labels"].get("opt-operator.io/role") for p in pods]
    seen = ("Pod", "Event", "Node", "OPTTraining", "OPTServe", "Job", "Deployment", "LeaderWorkerSet")
    return {
        "there": resource is not None,
        "phase": status.get("phase"),
        "step": status.get("served", {}).get("step"),
        "previous": [c["step"] for c in status.get("previous", [])],
        "rejected": [int(d.removeprefix("sha256:"), 16) for d in status.get("rejected", [])],
        "replicas": roles.count("replica"),
        "workers": roles.count("worker"),
        "gateways": roles.count("gateway"),
        "jobs": [j["metadata"]["name"] for j in api.of("Job")],
        "others": sorted(f"{k} {n}" for k, _, n in api.objects if k not in seen),
        "deployments": sorted(d["spec"]["replicas"] for k in ("Deployment", "LeaderWorkerSet") for d in api.of(k)),
    }
