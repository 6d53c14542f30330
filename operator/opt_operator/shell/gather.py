"""From cache, coordinators and clock to one frozen snapshot."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from opt_api.base import API_VERSION, without_nulls
from opt_api.canonical import canonical_json
from opt_api.documents.plan import Plan
from opt_api.problems import Problems
from opt_api.resolve import resolve
from opt_api.resolve.errors import PlanError
from opt_api.resources import OPTTraining
from opt_api.training.status import OPTTrainingStatus
from opt_operator.core.snapshot import Key, Settings, Snapshot
from opt_operator.core.views import NodeView, ResourceView
from opt_operator.shell.cache import CHILDREN, Cache
from opt_operator.shell.reports import Coordinators

NO_STORAGE = "spec.storage: found none, allowed is s3 or volume: pods have no folder in common"
Judged = tuple[OPTTraining | None, Plan | None, tuple[str, ...]]


class Gatherer:
    """Reads everything one decision needs.

    Args:
        clock: Wall time with a zone.
    """

    def __init__(
        self, cache: Cache, coordinators: Coordinators, settings: Settings, clock: Callable[[], datetime]
    ) -> None:
        self._cache, self._coordinators, self._settings, self._clock = cache, coordinators, settings, clock
        self.apis: frozenset[str] = frozenset()

    def snapshot(self, key: Key, status_age_s: float, refused: str) -> Snapshot:
        """Everything about one training, now."""
        resource: ResourceView | None = self._cache.object("OPTTraining", key.namespace, key.name)
        training, plan, problems = judge(resource)
        return Snapshot(
            now=self._clock(),
            key=key,
            settings=self._settings,
            resource=resource,
            training=training,
            problems=problems,
            status=status_of(resource),
            plan=plan,
            pods=self._cache.of("Pod", key),
            jobs=self._cache.of("Job", key),
            children=tuple(child for kind in CHILDREN for child in self._cache.of(kind, key)),
            nodes=self._nodes(),
            report=self._coordinators.newest(key),
            apis=self.apis,
            status_age_s=status_age_s,
            refused=refused,
        )

    def _nodes(self) -> Mapping[str, NodeView] | None:
        if not self._cache.sees_nodes:
            return None
        return {name: node for (_, name), node in self._cache.stores["Node"].objects.items()}


def judge(resource: ResourceView | None) -> Judged:
    """The training and its plan, or why there is none."""
    if resource is None:
        return None, None, ()
    meta = resource.metadata
    document = {"name": meta.name, "namespace": meta.namespace, "spec": resource.spec}
    return _judge(canonical_json(document), meta.name, meta.namespace)


@lru_cache(maxsize=4096)
def _judge(document: bytes, name: str, namespace: str) -> Judged:
    spec = without_nulls(json.loads(document)["spec"])
    raw = {
        "apiVersion": API_VERSION,
        "kind": "OPTTraining",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    try:
        training = OPTTraining.model_validate(raw)
    except ValidationError as fault:
        return None, None, tuple(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in fault.errors()[:8])
    if training.spec.storage is None:
        return training, None, (NO_STORAGE,)
    try:
        return training, resolve(training), ()
    except (PlanError, Problems) as fault:
        return training, None, tuple(str(fault).splitlines()[:8])


def status_of(resource: ResourceView | None) -> OPTTrainingStatus:
    """What we wrote last; a status that somebody broke counts field by field as far as it can be read."""
    raw: dict[str, Any] = without_nulls(resource.status) if resource else {}
    while True:
        try:
            return OPTTrainingStatus.model_validate(raw)
        except ValidationError as fault:
            broken = {str(error["loc"][0]) for error in fault.errors()}
            raw = {name: value for name, value in raw.items() if name not in broken}
