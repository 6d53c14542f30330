"""The record of why: the newest decisions on a resource, where `kubectl opt why` finds them.

It is written beside the work, never before it: when hundreds of nodes are lost at once, the API server has pods to make
first. What was decided meanwhile goes into one write. Entries that were not written when a process dies are lost, as
are those of a decision that it had carried out and not yet recorded.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from opt_api.base import API_VERSION
from opt_api.serving.status import OPTServeStatus
from opt_api.training.status import OPTTrainingStatus
from opt_operator.core import names
from opt_operator.core.actions import Action, Apply, Create, Decision, Delete, Event, Tell
from opt_operator.core.serving.snapshot import ServeSnapshot
from opt_operator.core.snapshot import Key, Snapshot
from opt_operator.shell.cache import Cache
from opt_operator.shell.kube import ApiFault, Kube
from opt_operator.shell.writes import Writes

KEPT = 20
"""Entries of one resource."""
SAME = ("rule", "done", "phase", "podAttempt")
"""A decision that equals the one before in these is not kept again."""
AGAIN_S = 0.2
"""Between two rounds: the cache must have seen the last write before the next of the same resource."""
REFUSED_S = 2.0
"""After a round in which a write was refused."""
LET_PASS_S = 30.0
"""So long a round lets other work pass."""
TOLD_ALONE, TOLD_NAMES = 8, 32
"""Of actions of one kind: so many have a line each; of more, so many are named on one."""
Entry = dict[str, Any]
Seen = Snapshot | ServeSnapshot
log = structlog.get_logger(__name__)


class Record:
    """Entries that wait, and the one task that writes them, one at a time.

    Args:
        may_write: Asked before each write; nothing is written without the lease.
        busy: Whether there is more to do than gets done.
    """

    def __init__(
        self, kube: Kube, cache: Cache, identity: str, may_write: Callable[[], bool], writes: Writes | None = None,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._kube, self._cache, self._identity, self._may_write = kube, cache, identity, may_write
        self._writes, self._busy = writes or Writes(cache), busy
        self._waiting: dict[Key, list[Entry]] = {}
        self._changed = asyncio.Event()

    def keep(self, snapshot: Seen, decision: Decision) -> None:
        """What was decided and done; it is written soon."""
        farewell = any(isinstance(one, Delete) and one.kind == snapshot.key.kind for one in decision.actions)
        if snapshot.resource is None or decision.rule == "deleting" or farewell:
            return
        waiting = self._waiting.setdefault(snapshot.key, [])
        _append(waiting, _entry(snapshot, decision, self._identity))
        del waiting[:-KEPT]
        self._changed.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._let_pass()
            well = await self.flush()
            if self._waiting:
                self._changed.set()
            await asyncio.sleep(AGAIN_S if well else REFUSED_S)

    async def _let_pass(self) -> None:
        """Until no other work waits."""
        for _ in range(round(LET_PASS_S / AGAIN_S)):
            if not self._busy():
                return
            await asyncio.sleep(AGAIN_S)

    async def flush(self) -> bool:
        """Write what can be written now: what follows a write that the cache has not seen waits, and what is refused.

        Returns:
            Whether nothing was refused.
        """
        well = True
        for key in tuple(self._waiting):
            if not self._may_write() or self._writes.unseen(key):
                continue
            entries = self._waiting.pop(key)
            try:
                await self._write(key, entries)
            except ApiFault as fault:
                well = False
                self._waiting[key] = [*entries, *self._waiting.pop(key, [])][-KEPT:]
                log.warning("the record of why was refused", run=key.name, namespace=key.namespace, fault=str(fault))
        return well

    async def _write(self, key: Key, entries: list[Entry]) -> None:
        resource = self._cache.object(key.kind, key.namespace, key.name)
        if resource is None:
            return
        meta, name = resource.metadata, names.why_map(key.name, key.kind)
        kept = self._cache.object("ConfigMap", key.namespace, name)
        found = _entries(kept.document.get("data", {}).get("decisions", "[]") if kept else "[]")
        before = len(found)
        for entry in entries:
            _append(found, entry)
        if len(found) == before:
            return
        owner = {"apiVersion": API_VERSION, "kind": key.kind, "name": meta.name, "uid": meta.uid}
        document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": meta.namespace, "labels": names.owned_by(key.kind, meta.name),
                         "ownerReferences": [owner]},
            "data": {"decisions": json.dumps(found[-KEPT:], indent=0)},
        }  # fmt: skip
        self._writes.wrote(key, "ConfigMap", await self._kube.apply("ConfigMap", document, "opt-why"))


def _append(entries: list[Entry], entry: Entry) -> None:
    """Add one that says something new."""
    if not entries or any(entries[-1].get(name) != entry[name] for name in SAME):
        entries.append(entry)


def _entries(text: str) -> list[Entry]:
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _entry(snapshot: Seen, decision: Decision, identity: str) -> Entry:
    return {
        "time": snapshot.now.isoformat(timespec="milliseconds"),
        "by": identity,
        "rule": decision.rule,
        "seen": list(decision.trace),
        "done": list(itertools.chain.from_iterable(_told(alike) for alike in _runs(decision.actions))),
        "phase": (decision.status or snapshot.status).phase,
        "podAttempt": _attempt(decision.status or snapshot.status),
    }


def _attempt(status: OPTTrainingStatus | OPTServeStatus) -> int:
    """Number that new pods carry; of a served model, that of its newest gate."""
    if isinstance(status, OPTTrainingStatus):
        return status.pod_attempt
    return status.gate.number if status.gate else 0


def _runs(actions: tuple[Action, ...]) -> Iterator[list[Action]]:
    """Actions that do the same to objects of one kind, one after the other."""
    return (list(alike) for _, alike in itertools.groupby(actions, lambda action: (type(action), *_what(action)[:2])))


def _told(alike: list[Action]) -> list[str]:
    """Each in words; many share a line, as a large gang would fill the record."""
    if len(alike) <= TOLD_ALONE:
        return [describe(action) for action in alike]
    named = ", ".join(_what(action)[2] for action in alike[1 : TOLD_NAMES + 1])
    more = "" if len(alike) <= TOLD_NAMES + 1 else f" and {len(alike) - TOLD_NAMES - 1} more"
    return [f"{describe(alike[0])}; likewise {named}{more}"]


def _what(action: Action) -> tuple[str, str, str]:
    """To which kind of object it is done, as what, and that object's name."""
    match action:
        case Create(document):
            return document["kind"], "", document["metadata"]["name"]
        case Apply(document, concern):
            return document["kind"], concern, document["metadata"]["name"]
        case Delete(kind, name):
            return kind, "", name
        case Tell(path, body):
            return "coordinator", path, str(body.get("host", ""))
        case Event(reason):
            return "event", reason, ""


def describe(action: Action) -> str:
    """An action in words."""
    match action:
        case Create(document):
            return f"create {document['kind']} {document['metadata']['name']}"
        case Apply(document, concern):
            return f"apply {document['kind']} {document['metadata']['name']} as {concern}"
        case Delete(kind, name, _, grace, why):
            return f"delete {kind} {name}{' at once' if grace == 0 else ''}: {why}"
        case Tell(path, body):
            return f"tell the coordinator {path} {dict(body)}"
        case Event(reason, message):
            return f"event {reason}: {message}"
