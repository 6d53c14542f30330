"""The operator's own shell on the model: cache, gatherer, applier and loop, with time and events in the test's hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from opt_operator.core.snapshot import Key, Settings
from opt_operator.shell.apply import Applier
from opt_operator.shell.cache import Cache, view_of
from opt_operator.shell.gather import Gatherer
from opt_operator.shell.kube import ApiFault
from opt_operator.shell.loop import Reconciler
from opt_operator.shell.queue import WorkQueue
from opt_operator.shell.writes import Writes
from support.opmodel.api import Died, ModelApi, Object, copied
from support.opmodel.world import NS, World

KEY = Key(NS, "small")
SETTINGS = Settings("registry/trainer:1", "registry/dataprep:1")
RELIST_EVERY = 30
SEEN_ELSEWHERE = ("Pod", "Job", "Event", "Node", "OPTTraining")


@dataclass
class Perturbation:
    """How the operator's view is spoilt.

    Attributes:
        lag: Events reach the cache so many ticks late.
        drop: Share of events that never come; the next list makes it good.
        faults: Share of writes that are refused before they are done, and of answers that are lost after.
    """

    lag: int = 0
    drop: float = 0.0
    faults: float = 0.0
    status: int = 500
    seed: int = 0


class Process:
    """One life of the operator."""

    def __init__(self, world: World, trouble: Perturbation) -> None:
        self.world, self.trouble = world, trouble
        self.random = random.Random(trouble.seed)
        api: Any = world.api
        self.cache = Cache(api, [], lambda *_: None)
        self.writes = Writes(self.cache)
        gatherer = Gatherer(self.cache, world, SETTINGS, lambda: world.api.now)
        applier = Applier(api, world, self.writes, "operator-1", lambda: True)
        self.loop = Reconciler(WorkQueue(), gatherer, applier, self.writes)
        self.position = 0

    async def start(self) -> None:
        for reflector in self.cache.reflectors:
            await reflector._list()
        self.position = len(self.world.api.log)

    async def look(self) -> None:
        """Hear what happened, then decide until there is nothing more to do; faults end the round, as in the loop."""
        for _ in range(12):
            await self._hear()
            before = len(self.world.api.history)
            try:
                await self.loop.reconcile(KEY)
            except ApiFault:
                return
            if len(self.world.api.history) == before:
                return

    async def _hear(self) -> None:
        log = self.world.api.log
        horizon = self.world.clock - self.trouble.lag
        while self.position < len(log) and self.world.api.ticks.get(self.position, 0) <= horizon:
            _, what, kind, document = log[self.position]
            self.position += 1
            if self.random.random() < self.trouble.drop:
                continue
            reflector = next((r for r in self.cache.reflectors if r.kind == kind), None)
            labels = document["metadata"].get("labels", {})
            managed = labels.get("app.kubernetes.io/managed-by") == "opt-operator"
            if reflector is not None and (managed or kind in ("Node", "OPTTraining")):
                reflector._take(what, view_of(kind, copied(document)))
        if self.trouble.drop and self.world.clock % RELIST_EVERY == 0:
            await self.start()


@dataclass
class Run:
    """A scenario from beginning to end, with one operator that may die and come back."""

    world: World
    script: Callable[[World, int], None]
    ticks: int
    trouble: Perturbation = field(default_factory=Perturbation)
    die_at: int | None = None
    die: str = "after"
    writes: int = 0
    deaths: int = 0
    doubled: list[str] = field(default_factory=list)

    async def play(self) -> World:
        api = self.world.api
        api.before_write, api.after_write = self._before, self._after
        process = await self._born()
        for tick in range(self.ticks):
            self.script(self.world, tick)
            self.world.tick()
            try:
                await process.look()
            except Died:
                self.deaths += 1
                process = await self._born()
            self._check(tick)
        return self.world

    async def _born(self) -> Process:
        process = Process(self.world, self.trouble)
        await process.start()
        return process

    def _before(self, what: str) -> None:
        if self.die == "before" and self.writes == self.die_at and not self.deaths:
            raise Died
        if self.trouble.faults and random.Random(f"{self.trouble.seed}{self.writes}").random() < self.trouble.faults:
            self.writes += 1
            raise ApiFault(self.trouble.status, "no")

    def _after(self, what: str) -> None:
        self.writes += 1
        if self.die == "after" and self.writes - 1 == self.die_at and not self.deaths:
            raise Died

    def _check(self, tick: int) -> None:
        """No place is held by two pods that can both work, and no two coordinators of one number."""
        seen: dict[str, str] = {}
        for pod in self.world.api.of("Pod"):
            meta, slot = pod["metadata"], pod["metadata"]["labels"].get("opt-operator.io/slot")
            if slot is None or not self._works(pod):
                continue
            if slot in seen:
                self.doubled.append(f"tick {tick}: slot {slot}: {seen[slot]} and {meta['name']}")
            seen[slot] = meta["name"]

    def _works(self, pod: Object) -> bool:
        where = pod["spec"].get("nodeName")
        node = self.world.api.objects.get(("Node", "", where or ""), {})
        leaving = node.get("spec", {}).get("unschedulable", False)
        ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        return not (where in self.world.lost or leaving or ended or "deletionTimestamp" in pod["metadata"])


def play(run: Run) -> World:
    """Play a run to its end."""
    return asyncio.run(run.play())


def end_of(world: World) -> dict[str, Any]:
    """What two runs of one scenario must agree on when they are over."""
    api = world.api
    resource = api.objects.get(("OPTTraining", NS, "small"))
    status = resource.get("status", {}) if resource else {}
    pods = sorted(
        f"{p['metadata']['labels']['opt-operator.io/role']}-{p['metadata']['labels'].get('opt-operator.io/slot', '')}"
        for p in api.of("Pod")
        if p.get("status", {}).get("phase") in ("Pending", "Running") and "deletionTimestamp" not in p["metadata"]
    )
    return {
        "there": resource is not None,
        "phase": status.get("phase"),
        "dataset": status.get("dataset"),
        "intent": status.get("intent", {}).get("reason"),
        "conditions": {c["type"]: c["status"] for c in status.get("conditions", [])},
        "pods": pods,
        "jobs": sorted(j["metadata"]["labels"].get("opt-operator.io/stage", "evaluation") for j in api.of("Job")),
        "others": sorted(f"{k} {n}" for k, _, n in api.objects if k not in SEEN_ELSEWHERE),
        "run": (world.journal.phase, len(world.journal.gang), world.journal.suspend),
    }


def fresh(api: ModelApi | None = None, nodes: int = 5) -> World:
    """A world with nodes and no training."""
    world = World(api or ModelApi())
    world.add_nodes(nodes)
    return world
