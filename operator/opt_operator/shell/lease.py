"""Leader election by a Lease: one process decides, another takes over when it falls silent."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import structlog

from opt_operator.shell.kube import ApiFault, Kube
from opt_operator.shell.metrics import LEADER, LEASE_TRANSITIONS

DURATION_S, RENEW_S, RETRY_S, AGAIN_S = 15, 3.0, 2.0, 0.5
TRY_S = 5.0
"""A renewal that takes longer is given up for the next: a request that is stuck must not cost the lease."""
SAFETY_S = 3.0
"""A leader stops writing so long before others may think it gone."""
log = structlog.get_logger(__name__)


class Lease:
    """One candidate. Time is measured on the monotonic clock: that others' wall clocks differ does not matter.

    `transitions` grows with each holder: the fencing token, which every status carries that its holder writes.

    Args:
        kube: API server.
        namespace, name: Of the Lease.
        identity: Who we are.
        make: Whether to make the Lease where there is none; else somebody else does, and takes it away in the end.
    """

    def __init__(self, kube: Kube, namespace: str, name: str, identity: str, *, make: bool = True) -> None:
        self._kube, self._namespace, self._name, self.identity = kube, namespace, name, identity
        self._may_make = make
        self._until = 0.0
        self._seen: tuple[str, float] = ("", 0.0)
        self._ours: dict[str, Any] | None = None
        """As we wrote it last: renewed without being read again, where nobody else has written."""
        self.transitions = 0
        self.held = asyncio.Event()

    def valid(self) -> bool:
        """Whether we may write now."""
        return asyncio.get_running_loop().time() < self._until

    async def run(self) -> None:
        """Try, renew, until the lease is lost after it was held; then return: the process is to end."""
        while True:
            began, wait = asyncio.get_running_loop().time(), RENEW_S if self.held.is_set() else RETRY_S
            try:
                async with asyncio.timeout(TRY_S):
                    ours = await self._try()
                if ours:
                    self._until = began + DURATION_S - SAFETY_S
                    self.held.set()
                    LEADER.set(1)
                    LEASE_TRANSITIONS.set(self.transitions)
                elif self.held.is_set():
                    break
            except (ApiFault, TimeoutError) as fault:
                wait = AGAIN_S
                log.warning("the lease could not be renewed", fault=repr(fault))
            if self.held.is_set() and not self.valid():
                break
            await asyncio.sleep(wait)
        LEADER.set(0)
        self._until = 0.0
        log.error("the lease is lost", identity=self.identity)

    def superseded(self, term: int) -> None:
        """A higher token was seen: another one leads. Nothing more is written, and the process ends."""
        log.error("another operator leads", term=term, ours=self.transitions, identity=self.identity)
        self._until = 0.0

    async def raise_to(self, term: int) -> None:
        """Make our token at least this: a Lease that was made anew counts from 1, and statuses remember more.

        Raises:
            ApiFault: The Lease could not be read or written.
        """
        while self.transitions < term:
            lease = await self._kube.get("Lease", self._namespace, self._name)
            if lease["spec"].get("holderIdentity") != self.identity:
                return
            lease["spec"]["leaseTransitions"] = term
            await self._write(lease)

    async def release(self) -> None:
        """Give it up, so that the next one need not wait."""
        if not self.held.is_set() or not self.valid():
            return
        self._until = 0.0
        try:
            lease = await self._kube.get("Lease", self._namespace, self._name)
            if lease["spec"].get("holderIdentity") == self.identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._kube.replace("Lease", lease)
        except ApiFault as fault:
            log.warning("the lease could not be given up", fault=str(fault))

    async def _try(self) -> bool:
        if self._ours is not None and await self._write(self._renewed(self._ours)):
            return True
        try:
            lease = await self._kube.get("Lease", self._namespace, self._name)
        except ApiFault as fault:
            if fault.status != 404:
                raise
            return await self._make() if self._may_make else False
        spec = lease.setdefault("spec", {})
        holder = spec.get("holderIdentity") or ""
        if holder and holder != self.identity and not self._expired(lease):
            return False
        if holder != self.identity:
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
            spec["acquireTime"] = _now()
        return await self._write(self._renewed(lease))

    def _renewed(self, lease: dict[str, Any]) -> dict[str, Any]:
        fresh = {"holderIdentity": self.identity, "leaseDurationSeconds": DURATION_S, "renewTime": _now()}
        return {**lease, "spec": {**lease["spec"], **fresh}}

    async def _make(self) -> bool:
        spec = {"holderIdentity": self.identity, "leaseDurationSeconds": DURATION_S, "leaseTransitions": 1,
                "acquireTime": _now(), "renewTime": _now()}  # fmt: skip
        meta = {"name": self._name, "namespace": self._namespace}
        document = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
        try:
            await self._kube.create("Lease", document)
        except ApiFault as fault:
            if fault.status == 409:
                return False
            raise
        self.transitions = 1
        return True

    async def _write(self, lease: dict[str, Any]) -> bool:
        """At the version that was read: of two candidates one is refused."""
        self._ours = None
        try:
            self._ours = await self._kube.replace("Lease", lease)
        except ApiFault as fault:
            if fault.status in (404, 409):
                return False
            raise
        self.transitions = int(lease["spec"].get("leaseTransitions") or 0)
        return True

    def _expired(self, lease: dict[str, Any]) -> bool:
        """Whether the holder has not renewed for its time, by our own watch."""
        version, now = lease["metadata"]["resourceVersion"], asyncio.get_running_loop().time()
        if self._seen[0] != version:
            self._seen = (version, now)
        return now - self._seen[1] > float(lease["spec"].get("leaseDurationSeconds") or DURATION_S)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
