"""The operator's own shell on the model of a served model's world, with time and events in the test's hand."""

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
from opt_operator.shell.record import Record
from opt_operator.shell.writes import Writes
from support.opmodel.api import Died, copied
from support.opmodel.serve_world import NS, ServeWorld

SERVE = Key(NS, "model", "OPTServe")
SETTINGS = Settings("registry/trainer:1", "registry/dataprep:1", "registry/serving:1", "registry/vllm:1")
RELIST_EVERY = 30


@dataclass
class Perturbation:
    """How the operator's view is spoilt: events late or lost, writes refused."""

    lag: int = 0
    drop: float = 0.0
    faults: float = 0.0
    status: int = 500
    seed: int = 0


class Process:
    """One life of the operator."""

    def __init__(self, world: ServeWorld, trouble: Perturbation) -> None:
        self.world, self.trouble = world, trouble
        self.random = random.Random(trouble.seed)
        api: Any = world.api
        self.cache = Cache(api, [], lambda *_: None)
        writes = Writes(self.cache)
        gatherer = Gatherer(self.cache, world, world, SETTINGS, lambda: world.api.now)
        gatherer.apis = world.apis
        self.record = Record(api, self.cache, "operator-1", lambda: True)
        applier = Applier(api, world, writes, self.record, "operator-1", lambda: True)
        self.loop = Reconciler(WorkQueue(), gatherer, applier, writes)
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
                await self.loop.reconcile(SERVE)
            except ApiFault:
                return
            await self.record.flush()
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
            managed = document["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "opt-operator"
            if reflector is not None and (managed or kind in ("Node", "OPTTraining", "OPTServe")):
                reflector._take(what, view_of(kind, copied(document)))
        if self.trouble.drop and self.world.clock % RELIST_EVERY == 0:
            await self.start()


@dataclass
class Run:
    """A scenario from beginning to end, with one operator that may die and come back."""

    world: ServeWorld
    script: Callable[[ServeWorld, int], None]
    ticks: int
    trouble: Perturbation = field(default_factory=Perturbation)
    die_at: int | None = None
    writes: int = 0
    deaths: int = 0

    async def play(self) -> ServeWorld:
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
        return self.world

    async def _born(self) -> Process:
        process = Process(self.world, self.trouble)
        await process.start()
        return process

    def _before(self, what: str) -> None:
        if self.trouble.faults and random.Random(f"{self.trouble.seed}{self.writes}").random() < self.trouble.faults:
            self.writes += 1
            raise ApiFault(self.trouble.status, "no")

    def _after(self, what: str) -> None:
        self.writes += 1
        if self.writes - 1 == self.die_at and not self.deaths:
            raise Died


def play(run: Run) -> ServeWorld:
    """Play a run to its end."""
    return asyncio.run(run.play())
