"""The operator as one program: cache, coordinators, loop and lease, with kopf for watch, login and probes."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import kopf
import structlog

from opt_api.base import GROUP, VERSION
from opt_operator.core import names
from opt_operator.core.snapshot import Key, Settings
from opt_operator.shell import garbage
from opt_operator.shell.apply import Applier
from opt_operator.shell.cache import KINDS, Cache, owner_of
from opt_operator.shell.gateways import HttpGateways
from opt_operator.shell.gather import Gatherer
from opt_operator.shell.kube import SILENCE_S, AioKube, ApiFault
from opt_operator.shell.lease import Lease
from opt_operator.shell.loop import Reconciler
from opt_operator.shell.metrics import WATCH_SILENCE, serve
from opt_operator.shell.quarantine import Quarantine
from opt_operator.shell.queue import Lane, WorkQueue
from opt_operator.shell.record import Record
from opt_operator.shell.reports import HttpCoordinators
from opt_operator.shell.writes import Writes

DEAF_S = 3 * SILENCE_S
"""A watch that has been silent for so long has no future: liveness fails and the kubelet starts us again."""
STARVED_S = 120.0
DISCOVER_S = 60.0
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says.

    Attributes:
        namespaces: Those to watch; none for all.
        kubeconfig: None inside a cluster.
        lease_is_given: Somebody else makes the Lease.
        taint_nodes: Keep other pods off quarantined machines; needs the right to change nodes.
    """

    settings: Settings
    namespaces: tuple[str, ...]
    kubeconfig: str | None
    lease_namespace: str
    lease_name: str
    metrics_port: int
    probe_port: int
    taint_nodes: bool = False
    lease_is_given: bool = False


class Operator:
    """All parts, wired. One event loop."""

    def __init__(self, kube: AioKube, options: Options) -> None:
        self._options, self.kube = options, kube
        identity = f"{os.environ.get('POD_NAME') or os.uname().nodename}-{uuid.uuid4().hex[:8]}"
        self.queue = WorkQueue()
        self.cache = Cache(kube, options.namespaces, self._heard)
        self.coordinators = HttpCoordinators(self.cache, self.queue.add)
        self.gateways = HttpGateways(self.cache, self.queue.add)
        self.lease = Lease(kube, options.lease_namespace, options.lease_name, identity, make=not options.lease_is_given)
        writes = Writes(self.cache)
        self._gatherer = Gatherer(
            self.cache, self.coordinators, self.gateways, options.settings, lambda: datetime.now(UTC)
        )
        lease = self.lease
        self.record = Record(kube, self.cache, identity, lease.valid, busy=lambda: self.queue.behind)
        applier = Applier(
            kube, self.coordinators, writes, self.record, identity, lease.valid, lambda: lease.transitions,
            lease.superseded,
        )  # fmt: skip
        self.reconciler = Reconciler(self.queue, self._gatherer, applier, writes)
        release = f"{options.lease_namespace}/{options.lease_name}"
        self.quarantine = Quarantine(kube, self.cache, release, self.lease.valid)

    async def run(self, stop: asyncio.Event) -> bool:
        """Work until told to stop (True), or until the lease is lost (False)."""
        lease = asyncio.create_task(self.lease.run(), name="lease")
        tasks = [
            asyncio.create_task(part, name=name)
            for name, part in (
                ("cache", self.cache.run()),
                ("coordinators", self.coordinators.run()),
                ("gateways", self.gateways.run()),
                ("lead", self._lead()),
                ("kopf", self._kopf()),
                ("measure", self._measure()),
                ("garbage", garbage.run(lambda: self.queue.behind)),
                *([("quarantine", self.quarantine.run())] if self._options.taint_nodes else []),
            )
        ]
        stopped = asyncio.create_task(stop.wait(), name="stop")
        done, _ = await asyncio.wait({lease, stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in (lease, stopped, *tasks):
            task.cancel()
        await asyncio.gather(lease, stopped, *tasks, return_exceptions=True)
        for task in done - {stopped}:
            if not task.cancelled() and (fault := task.exception()):
                log.error("a part ended", part=task.get_name(), fault=repr(fault))
        if stop.is_set():
            await self.lease.release()
        return stop.is_set()

    async def _lead(self) -> None:
        await self.cache.wait_synced()
        log.info("ready to lead", identity=self.lease.identity)
        await self.lease.held.wait()
        await self._discover()
        await self.lease.raise_to(1 + max(self.cache.terms(), default=0))
        log.info("leading", identity=self.lease.identity, transitions=self.lease.transitions)
        for key in self.cache.owners():
            self.queue.add(key)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.reconciler.run())
            group.create_task(self.record.run())
            group.create_task(self._rediscover())

    async def _discover(self) -> None:
        self._gatherer.apis = await self.kube.groups()

    async def _rediscover(self) -> None:
        """What was installed since: queues and gang schedulers come and go with the cluster's administrator."""
        while True:
            await asyncio.sleep(DISCOVER_S)
            try:
                await self._discover()
            except ApiFault as fault:
                log.warning("the cluster does not say which APIs it has", fault=str(fault))

    def _heard(self, kind: str, item: Any) -> None:
        """Something changed: look at the resource it belongs to, at who serves it, or at who has pods on the node."""
        key = owner_of(kind, item)
        if key is not None and kind == "ConfigMap" and item.metadata.name == names.why_map(key.name, key.kind):
            return  # nothing is decided on our own record
        if key is not None:
            if kind == "Pod" and item.role == "coordinator":
                self.coordinators.hurry(key)
            self.queue.add(key)
            for follower in self._followers(item) if kind == "OPTTraining" else ():
                self.queue.add(follower)
        elif kind == "Node":
            for owner in self.cache.on_node(item.metadata.name):
                self.coordinators.hurry(owner)
                self.queue.add(owner, Lane.FIRST)

    def _followers(self, training: Any) -> list[Key]:
        """Served models whose source is this training."""
        meta = training.metadata
        found = self.cache.stores["OPTServe"].objects.values()
        source = [(serve.metadata, (serve.spec.get("source") or {}).get("training") or {}) for serve in found]
        return [
            Key(m.namespace, m.name, "OPTServe")
            for m, followed in source
            if m.namespace == meta.namespace and followed.get("name") == meta.name
        ]

    async def _measure(self) -> None:
        while True:
            self.queue.measure()
            for kind in KINDS:
                silent = [r.silence_s() for r in self.cache.reflectors if r.kind == kind and r.allowed]
                WATCH_SILENCE.labels(kind).set(max(silent, default=0.0))
            await asyncio.sleep(1.0)

    def health(self) -> dict[str, Any]:
        """For the probe; raises where this process should be started again."""
        deaf = {r.kind: round(r.silence_s()) for r in self.cache.reflectors if r.allowed and r.silence_s() > DEAF_S}
        if deaf:
            raise kopf.PermanentError(f"watches are silent, in seconds: {deaf}")
        waiting = self.queue.measure()
        if self.lease.valid() and waiting > STARVED_S:
            raise kopf.PermanentError(f"the queue has not moved for {waiting:.0f} s")
        return {"leader": self.lease.valid(), "queue_age_s": waiting}

    async def _kopf(self) -> None:
        await kopf.operator(
            registry=registry_of(self),
            settings=settings_of(),
            clusterwide=not self._options.namespaces,
            namespaces=self._options.namespaces,
            standalone=True,
            liveness_endpoint=f"http://0.0.0.0:{self._options.probe_port}/healthz",
        )


def registry_of(operator: Operator) -> kopf.OperatorRegistry:
    """Handlers that do nothing but add a key, log in, and answer the probe."""
    registry = kopf.OperatorRegistry()

    @kopf.on.event(GROUP, VERSION, "opttrainings", registry=registry)
    async def heard(name: str, namespace: str | None, **_: Any) -> None:
        operator.queue.add(Key(namespace or "", name))

    @kopf.on.event(GROUP, VERSION, "optserves", registry=registry)
    async def heard_serve(name: str, namespace: str | None, **_: Any) -> None:
        operator.queue.add(Key(namespace or "", name, "OPTServe"))

    @kopf.on.probe(id="operator", registry=registry)
    async def probe(**_: Any) -> dict[str, Any]:
        return operator.health()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await operator.kube.connection()

    return registry


def settings_of() -> kopf.OperatorSettings:
    """Plumbing only: no events, no annotations, no scanning of kinds we do not know."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 300
    settings.networking.request_timeout = 15
    return settings


async def operate(options: Options) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    serve(options.metrics_port)
    kube = await AioKube.connect(options.kubeconfig)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        return 0 if await Operator(kube, options).run(stop) else 1
    finally:
        await kube.close()
