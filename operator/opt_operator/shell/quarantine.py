"""Puts our taint on the nodes of quarantined machines, and takes it away again. Level-triggered, like all else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from opt_api.training.status import HostStatus, OPTTrainingStatus
from opt_operator.core import names
from opt_operator.core.quarantine import Taint, taints
from opt_operator.shell.cache import Cache
from opt_operator.shell.gather import read_status
from opt_operator.shell.kube import ApiFault, Kube

EVERY_S = 2.0
MANAGER = "opt-quarantine"
log = structlog.get_logger(__name__)


class Quarantine:
    """One operator's taints.

    Args:
        release: Namespace and name of the operator's Lease, as it is written on the nodes.
        may_write: Asked before each write; False while another process leads.
    """

    def __init__(self, kube: Kube, cache: Cache, release: str, may_write: Callable[[], bool]) -> None:
        self._kube, self._cache, self._release, self._may_write = kube, cache, release, may_write

    async def run(self) -> None:
        """Look again and again until cancelled; whatever was refused is tried at the next look."""
        await self._cache.wait_synced()
        while True:
            await asyncio.sleep(EVERY_S)
            if self._may_write() and self._cache.sees_nodes:
                await self.look()

    async def look(self) -> None:
        """Change what has to change now."""
        for taint in taints(self._cache.nodes, self._suspected(), self._release):
            try:
                await self._write(taint)
            except ApiFault as fault:
                log.warning("a taint was refused", node=taint.node.metadata.name, fault=str(fault))

    def _suspected(self) -> dict[str, tuple[HostStatus, ...]]:
        resources = self._cache.stores["OPTTraining"].objects.values()
        found = [one for one in resources if one.status.get("hosts")]
        return {one.metadata.uid: read_status(OPTTrainingStatus, one).hosts for one in found}

    async def _write(self, taint: Taint) -> None:
        """On the node as it is now: the list of taints is replaced whole, and others write to it as well."""
        name = taint.node.metadata.name
        node = await self._kube.get("Node", None, name)
        kept = [one for one in node["spec"].get("taints", []) if one["key"] != names.QUARANTINED]
        ours = [{"key": names.QUARANTINED, "value": taint.owner, "effect": "NoSchedule"}] if taint.owner else []
        document: dict[str, Any] = {
            "metadata": {"name": name, "resourceVersion": node["metadata"]["resourceVersion"],
                         "annotations": {names.QUARANTINED_BY: self._release if taint.owner else None}},
            "spec": {"taints": [*kept, *ours] or None},
        }  # fmt: skip
        await self._kube.merge("Node", document, MANAGER)
        log.info("quarantine", node=name, owner=taint.owner, tainted=bool(taint.owner))
