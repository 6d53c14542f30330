"""The operator's own shell on the model: cache, gatherer, applier and loop, with time and events in the test's hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from opt_api.base import GROUP
from opt_operator.core.snapshot import Key, Settings, Snapshot
from opt_operator.shell.apply import Applier
from opt_operator.shell.cache import Cache, view_of
from opt_operator.shell.gather import Gatherer
from opt_operator.shell.kube import ApiFault
from opt_operator.shell.loop import Reconciler
from opt_operator.shell.quarantine import Quarantine
from opt_operator.shell.queue import WorkQueue
from opt_operator.shell.record import Record
from opt_operator.shell.writes import Writes
from support.opmodel.api import Died, ModelApi, Object, copied
from support.opmodel.meddling import meddle
from support.opmodel.world import NS, World

KEY = Key(NS, "small")
SETTINGS = Settings("registry/trainer:1", "registry/dataprep:1")
RELIST_EVERY = 30
RIVAL_LAG = 3
CALM = 12
"""So many seconds a run must stay where it should end."""
LONGEST = 600
SEEN_ELSEWHERE = ("Pod", "Job", "Event", "Node", "OPTTraining")


@dataclass
class Perturbation:
    """How the operator's view is spoilt, and its hand stayed.

    Attributes:
        lag: Events reach the cache so many ticks late.
        drop: Share of events that never come; the next list makes it good.
        faults: Share of writes that are refused before they are done.
        status: With which they are refused.
        lost: Share of writes that are done while their answers never come: a server that is slow beyond the time limit.
        outage: From this tick to that one the API server is away: no write, no list, no event.
        refused: What is refused with 403 from the first tick of `when` to the last: beginnings of writes.
        rival: From this tick to that one a second operator decides and writes as well, from an older view.
        hand: From this tick to that one somebody edits and deletes children.
    """

    lag: int = 0
    drop: float = 0.0
    faults: float = 0.0
    status: int = 500
    lost: float = 0.0
    outage: tuple[int, int] = (0, 0)
    refused: tuple[str, ...] = ()
    when: tuple[int, int] = (0, 0)
    rival: tuple[int, int] = (0, 0)
    hand: tuple[int, int] = (0, 0)
    seed: int = 0

    def away(self, tick: int) -> bool:
        """Whether the API server is."""
        return self.outage[0] <= tick < self.outage[1]

    def chance(self, what: str, number: int, share: float) -> bool:
        """Dice that fall the same way each time."""
        return bool(share) and random.Random(f"{self.seed}{what}{number}").random() < share


class Process:
    """One life of the operator."""

    def __init__(self, world: World, trouble: Perturbation) -> None:
        self.world, self.trouble = world, trouble
        self.random = random.Random(trouble.seed)
        api: Any = world.api
        self.cache = Cache(api, [], lambda *_: None)
        self.writes = Writes(self.cache, lambda: float(world.clock))
        gatherer = Gatherer(self.cache, world, world, SETTINGS, lambda: world.api.now)
        self.record = Record(
            api, self.cache, "operator-1", lambda: True, Writes(self.cache, lambda: float(world.clock))
        )
        applier = Applier(api, world, self.writes, self.record, "operator-1", lambda: True)
        self.loop = Reconciler(WorkQueue(), gatherer, applier, self.writes)
        self.quarantine = Quarantine(api, self.cache, "system/operator", lambda: True)
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
            await self.record.flush()
            await self.quarantine.look()
            if len(self.world.api.history) == before:
                return

    async def _hear(self) -> None:
        log = self.world.api.log
        if self.trouble.away(self.world.clock):
            return
        horizon = self.world.clock - self.trouble.lag
        while self.position < len(log) and self.world.api.ticks.get(self.position, 0) <= horizon:
            _, what, kind, document = log[self.position]
            self.position += 1
            if self.random.random() < self.trouble.drop:
                continue
            reflector = next((r for r in self.cache.reflectors if r.kind == kind), None)
            labels = document["metadata"].get("labels", {})
            managed = labels.get("app.kubernetes.io/managed-by") == "opt-operator"
            if reflector is not None and (managed or kind in ("Node", "OPTTraining", "OPTServe")):
                reflector._take(what, view_of(kind, copied(document)))
        if self.trouble.drop and self.world.clock % RELIST_EVERY == 0:
            await self.start()


@dataclass
class Run:
    """A scenario from beginning to end, with one operator that may die and come back."""

    world: World
    script: Callable[[World, int], None]
    after: int
    wanted: dict[str, Any]
    trouble: Perturbation = field(default_factory=Perturbation)
    die_at: int | None = None
    writes: int = 0
    made: dict[int, str] = field(default_factory=dict)
    """What each write was."""
    before: int = 0
    """Writes that were made until the gang was at work."""
    deaths: int = 0
    doubled: list[str] = field(default_factory=list)

    async def play(self) -> World:
        api = self.world.api
        api.before_write, api.after_write = self._before, self._after
        process = await self._born()
        rival: Process | None = None
        calm = 0
        for tick in range(LONGEST):
            if self.world.began is None:
                self.before = self.writes
            self.script(self.world, tick)
            if _within(tick, self.trouble.hand):
                meddle(self.world, tick)
            self.world.tick()
            if _within(tick, self.trouble.rival):
                rival = rival or await self._born(RIVAL_LAG)
                await rival.look()
            try:
                await process.look()
            except Died:
                self.deaths += 1
                process = await self._born()
            self._check(tick)
            calm = calm + 1 if self._came(tick) else 0
            if calm > CALM:
                break
        return self.world

    def _came(self, tick: int) -> bool:
        """Whether it is where it should end, with all trouble behind it."""
        began, trouble = self.world.began or 0, self.trouble
        if tick < began + self.after or tick < max(
            x[1] for x in (trouble.outage, trouble.when, trouble.rival, trouble.hand)
        ):
            return False
        found = end_of(self.world)
        return {key: found[key] for key in self.wanted} == self.wanted

    async def _born(self, lag: int = 0) -> Process:
        process = Process(self.world, replace(self.trouble, lag=lag) if lag else self.trouble)
        await process.start()
        return process

    def _before(self, what: str) -> None:
        trouble, tick = self.trouble, self.world.clock
        if trouble.away(tick):
            raise ApiFault(0, "nobody answers")
        if _within(tick, trouble.when) and what.startswith(trouble.refused):
            raise ApiFault(403, f"may not {what}")
        if trouble.chance("refused", self.writes, trouble.faults):
            self.writes += 1
            raise ApiFault(trouble.status, "no")

    def _after(self, what: str) -> None:
        self.made[self.writes] = what
        self.writes += 1
        if self.writes - 1 == self.die_at and not self.deaths:
            raise Died
        if self.trouble.chance("lost", self.writes, self.trouble.lost):
            raise ApiFault(0, "no answer in time")

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
        """Neither does one on a node that goes, nor one that its coordinator trusts no more."""
        where, suspected = pod["spec"].get("nodeName"), pod["metadata"]["name"] in self.world.suspected
        node = self.world.api.objects.get(("Node", "", where or ""), {})
        leaving = bool(node.get("spec", {}).get("unschedulable") or node.get("spec", {}).get("taints"))
        ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        return not (where in self.world.lost or leaving or suspected or ended or "deletionTimestamp" in pod["metadata"])


def _within(tick: int, span: tuple[int, int]) -> bool:
    return span[0] <= tick < span[1]


def play(run: Run) -> World:
    """Play a run to its end."""
    return asyncio.run(run.play())


def end_of(world: World) -> dict[str, Any]:
    """What two runs of one scenario must agree on when they are over."""
    api = world.api
    resource = api.objects.get(("OPTTraining", NS, "small"))
    status = resource.get("status", {}) if resource else {}
    alive = [
        p["metadata"]["labels"]
        for p in api.of("Pod")
        if p.get("status", {}).get("phase") in ("Pending", "Running") and "deletionTimestamp" not in p["metadata"]
    ]
    return {
        "there": resource is not None,
        "phase": status.get("phase"),
        "dataset": status.get("dataset"),
        "intent": status.get("intent", {}).get("reason"),
        "conditions": {c["type"]: c["status"] for c in status.get("conditions", [])},
        "pods": sorted(labels.get(f"{GROUP}/slot", labels[f"{GROUP}/role"]) for labels in alive),
        "going": [p["metadata"]["name"] for p in api.of("Pod") if "deletionTimestamp" in p["metadata"]],
        "gang": sum(labels[f"{GROUP}/role"] == "gang" for labels in alive),
        "jobs": sorted(j["metadata"]["labels"].get("opt-operator.io/stage", "evaluation") for j in api.of("Job")),
        "tainted": [n["metadata"]["name"] for n in api.of("Node") if "quarantined" in str(n["spec"].get("taints"))],
        "exposed": world.exposed(),
        "suspected": [p["metadata"]["name"] for p in api.of("Pod") if p["metadata"]["name"] in world.suspected],
        "others": sorted(f"{k} {n}" for k, _, n in api.objects if k not in SEEN_ELSEWHERE),
        "rate": world.journal.values.get("learningRate"),
        "run": (world.journal.phase, len(world.journal.gang), world.journal.suspend),
    }


def snapshot_of(world: World) -> Snapshot:
    """What an operator that has just started sees of a world."""

    async def look() -> Snapshot:
        process = Process(world, Perturbation())
        await process.start()
        found = process.loop._gatherer.snapshot(KEY, 0.0, "")
        assert isinstance(found, Snapshot)
        return found

    return asyncio.run(look())


def fresh(api: ModelApi | None = None, nodes: int = 5) -> World:
    """A world with nodes and no training."""
    world = World(api or ModelApi())
    world.add_nodes(nodes)
    return world
