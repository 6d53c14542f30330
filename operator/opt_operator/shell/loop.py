"""The loop: take a key, gather, decide, apply. What fails comes again, later and later."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars

from opt_operator.core.actions import Decision
from opt_operator.core.decide import decide
from opt_operator.core.serving.decide import decide as decide_serve
from opt_operator.core.serving.snapshot import ServeSnapshot
from opt_operator.core.snapshot import Key, Snapshot
from opt_operator.shell.apply import Applier, NotLeadingError
from opt_operator.shell.gather import Gatherer
from opt_operator.shell.kube import ApiFault
from opt_operator.shell.metrics import RECONCILE, show
from opt_operator.shell.pace import MOST, Pace
from opt_operator.shell.queue import WorkQueue
from opt_operator.shell.serve_metrics import show_serve
from opt_operator.shell.writes import Writes

UNSEEN_S = 0.05
REFUSALS = (403, 422)
"""Answers that the user has to hear of: no right, no quota, not valid."""
log = structlog.get_logger(__name__)


class Reconciler:
    """Looks at one resource at a time in each of its workers."""

    def __init__(self, queue: WorkQueue, gatherer: Gatherer, applier: Applier, writes: Writes) -> None:
        self._queue, self._gatherer, self._applier, self._writes = queue, gatherer, applier, writes
        self._written: dict[Key, float] = {}
        self._refused: dict[Key, str] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        pace = Pace()
        async with asyncio.TaskGroup() as group:
            for number in range(MOST):
                group.create_task(self._work(number, pace))

    async def _work(self, number: int, pace: Pace) -> None:
        while True:
            await pace.turn(number)
            key = await self._queue.take()
            began = time.perf_counter()
            result, wrote = "ok", True
            try:
                wrote = await self.reconcile(key)
            except ApiFault as fault:
                result = "fault"
                self._fault(key, fault)
            except NotLeadingError:
                result = "not-leading"  # lost, or renewed late: the lease knows which. A worker outlives the moment
                self._queue.failed(key)
            except Exception:
                result = "error"
                log.exception("a decision failed", run=key.name, namespace=key.namespace)
                self._queue.failed(key)
            else:
                self._queue.done(key)
            took = time.perf_counter() - began
            if wrote:
                pace.took(took)
            RECONCILE.labels(result).observe(took)

    async def reconcile(self, key: Key) -> bool:
        """One look; whether anything was written. Raises what the API server refuses."""
        if self._writes.unseen(key):
            self._queue.add_after(key, UNSEEN_S)
            return False
        now = asyncio.get_running_loop().time()
        age = 0.0 if self._queue.behind else now - self._written.get(key, -1e9)  # numbers that grow let others pass
        snapshot = self._gatherer.snapshot(key, age, self._refused.get(key, ""))
        decision = _decided(snapshot)
        with bound_contextvars(**_words(snapshot)):
            written = await self._applier.apply(snapshot, decision)
        if written:
            self._written[key] = now
        if decision.actions:
            self._refused.pop(key, None)
        if snapshot.resource is None and not snapshot.pods:
            self._written.pop(key, None)
        else:
            self._queue.add_after(key, decision.requeue_after)
        return written or bool(decision.actions)

    def _fault(self, key: Key, fault: ApiFault) -> None:
        if fault.status in REFUSALS:
            self._refused[key] = fault.message[:1000]
        wait = self._queue.failed(key, fault.retry_after_s)
        log.warning("refused", run=key.name, namespace=key.namespace, fault=str(fault), again_in_s=round(wait, 1))


def _words(snapshot: Snapshot | ServeSnapshot) -> dict[str, Any]:
    """What every log line of a look says of the resource."""
    status = snapshot.status
    found = {"attempt": getattr(status, "attempt", None), "step": getattr(status, "step", None)}
    words = {"run": snapshot.key.name, "namespace": snapshot.key.namespace, **found}
    return {name: value for name, value in words.items() if value is not None}


def _decided(snapshot: Snapshot | ServeSnapshot) -> Decision:
    """Show the numbers and decide."""
    if isinstance(snapshot, ServeSnapshot):
        show_serve(snapshot)
        return decide_serve(snapshot)
    show(snapshot)
    return decide(snapshot)
