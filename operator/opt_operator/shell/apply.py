"""Carries out one decision: actions in order, the status last; the record of why follows (`record`)."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from opt_api.base import API_VERSION
from opt_operator.core.actions import Action, Apply, Create, Decision, Delete, Event, Tell
from opt_operator.core.serving.snapshot import ServeSnapshot
from opt_operator.core.snapshot import Snapshot
from opt_operator.shell.kube import RESOURCES, ApiFault, Kube
from opt_operator.shell.record import Record
from opt_operator.shell.reports import Coordinators
from opt_operator.shell.writes import Writes

AT_ONCE = 8
"""Actions of one kind that are carried out together."""
CONFLICT, GONE = 409, 404
COMPONENT = "opt-operator"
WATCHED = frozenset(RESOURCES) - {"Event", "Lease"}
Seen = Snapshot | ServeSnapshot
log = structlog.get_logger(__name__)


class NotLeadingError(Exception):
    """The lease is not ours at this moment: nothing may be written."""


class Applier:
    """Writes what was decided. Every write is safe to repeat.

    Args:
        may_write: Asked before each write; False stops everything at once, as the lease is lost.
        term: Our fencing token; each status carries that of its writer.
        superseded: Told of a higher one that was found: somebody else leads, whatever our own clock says.
    """

    def __init__(
        self, kube: Kube, coordinators: Coordinators, writes: Writes, record: Record, identity: str,
        may_write: Callable[[], bool], term: Callable[[], int] = lambda: 0,
        superseded: Callable[[int], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._kube, self._coordinators, self._writes, self._record = kube, coordinators, writes, record
        self._identity, self._may_write = identity, may_write
        self._term, self._superseded = term, superseded

    async def apply(self, snapshot: Seen, decision: Decision) -> bool:
        """All of it; whether a status was written.

        Raises:
            ApiFault: A write was refused; those before it are done, and all of it will be tried again.
            NotLeadingError: The lease is not ours, or no longer; the same holds.
        """
        if (found := snapshot.status.operator_term or 0) > self._term() > 0:
            self._superseded(found)
        for _, alike in itertools.groupby(decision.actions, type):
            listed = tuple(alike)
            for first in range(0, len(listed), AT_ONCE):
                await self._act(snapshot, listed[first : first + AT_ONCE])
        if decision.actions or (decision.status and decision.status.phase != snapshot.status.phase):
            self._record.keep(snapshot, decision)
        if decision.status is None or snapshot.resource is None:
            return False
        self._check()
        meta = snapshot.resource.metadata
        document = {
            "apiVersion": API_VERSION,
            "kind": snapshot.key.kind,
            "metadata": {"name": meta.name, "namespace": meta.namespace, "resourceVersion": meta.resource_version},
            "status": decision.status.wire() | ({"operatorTerm": self._term()} if self._term() else {}),
        }
        answer = await self._kube.apply(snapshot.key.kind, document, "opt-status", "status")
        self._writes.wrote(snapshot.key, snapshot.key.kind, answer)
        return True

    async def _act(self, snapshot: Seen, alike: tuple[Action, ...]) -> None:
        """Some actions of one kind together: pods of a large gang would take seconds one after another.

        Raises:
            ApiFault: One was refused; the others of these were carried out all the same.
        """
        self._check()
        if len(alike) == 1:
            await DO[type(alike[0])](self, snapshot, alike[0])
            return
        done = await asyncio.gather(*(DO[type(one)](self, snapshot, one) for one in alike), return_exceptions=True)
        for result in done:
            if isinstance(result, BaseException):
                raise result

    async def _create(self, snapshot: Seen, action: Create) -> None:
        kind, meta = action.document["kind"], action.document["metadata"]
        try:
            answer = await self._kube.create(kind, action.document)
        except ApiFault as fault:
            if fault.status != CONFLICT:
                raise
            answer = await self._kube.get(kind, meta["namespace"], meta["name"])
            owners = [owner["uid"] for owner in answer["metadata"].get("ownerReferences", [])]
            if snapshot.resource is None or snapshot.resource.metadata.uid not in owners:
                what = f"{kind} {meta['name']} is somebody else's; delete it or rename the {snapshot.key.kind}"
                raise ApiFault(CONFLICT, what) from fault
        self._writes.wrote(snapshot.key, kind, answer)
        log.info("created", kind=kind, name=meta["name"], run=snapshot.key.name, namespace=snapshot.key.namespace)

    async def _apply(self, snapshot: Seen, action: Apply) -> None:
        kind = action.document["kind"]
        answer = await self._kube.apply(kind, action.document, action.concern)
        self._writes.wrote(snapshot.key, kind, answer)

    async def _delete(self, snapshot: Seen, action: Delete) -> None:
        try:
            await self._kube.delete(action.kind, snapshot.key.namespace, action.name, action.uid, action.grace_s)
        except ApiFault as fault:
            if fault.status == CONFLICT:  # the name has another uid now, which is not meant, or somebody else writes
                return
            if fault.status != GONE:
                raise
        self._writes.deleted(snapshot.key, action.kind, snapshot.key.namespace, action.name, action.uid)
        log.info("deleted", kind=action.kind, name=action.name, why=action.why, grace_s=action.grace_s,
                 run=snapshot.key.name, namespace=snapshot.key.namespace)  # fmt: skip

    async def _tell(self, snapshot: Seen, action: Tell) -> None:
        pod = snapshot.coordinator if isinstance(snapshot, Snapshot) else None
        if pod is not None:
            await self._coordinators.tell(pod, action.path, action.body)

    async def _event(self, snapshot: Seen, action: Event) -> None:
        if snapshot.resource is None:
            return
        meta, moment = snapshot.resource.metadata, snapshot.now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        mark = hashlib.sha256(f"{meta.uid}/{action.key}/{action.reason}".encode()).hexdigest()[:16]
        document = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{meta.name}.{mark}", "namespace": meta.namespace},
            "regarding": {"apiVersion": API_VERSION, "kind": snapshot.key.kind, "name": meta.name,
                          "namespace": meta.namespace, "uid": meta.uid},
            "reason": action.reason,
            "note": action.message,
            "type": "Warning" if action.warning else "Normal",
            "action": action.reason,
            "eventTime": moment,
            "reportingController": COMPONENT,
            "reportingInstance": self._identity[:128],
        }  # fmt: skip
        try:
            await self._kube.create("Event", document)
        except ApiFault as fault:
            if fault.status != CONFLICT:
                log.warning("an event was refused", reason=action.reason, fault=str(fault))

    def _check(self) -> None:
        if not self._may_write():
            raise NotLeadingError


DO: dict[type, Callable[[Applier, Seen, Any], Awaitable[None]]] = {
    Create: Applier._create,
    Apply: Applier._apply,
    Delete: Applier._delete,
    Tell: Applier._tell,
    Event: Applier._event,
}
