"""From cache, coordinators and clock to one frozen snapshot."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import ValidationError

from opt_api.base import API_VERSION, without_nulls
from opt_api.canonical import canonical_json
from opt_api.documents.plan import Plan
from opt_api.problems import Problems
from opt_api.resolve import resolve
from opt_api.resolve.errors import PlanError
from opt_api.resources import OPTServe, OPTTraining
from opt_api.serving.status import OPTServeStatus
from opt_api.training.status import OPTTrainingStatus
from opt_operator.core.serving.snapshot import ServeSnapshot
from opt_operator.core.snapshot import PROGRESS_EVERY_S, Key, Settings, Snapshot
from opt_operator.core.views import NodeView, ResourceView
from opt_operator.shell.cache import CHILDREN, Cache
from opt_operator.shell.gateways import Gateways
from opt_operator.shell.reports import Coordinators

PROGRESS_PER_S = 20
"""Statuses a second, at most, of which only numbers that grow have changed: the API server has others to serve."""
NO_STORAGE = "spec.storage: found none, allowed is s3 or volume: pods have no folder in common"
Judged = tuple[OPTTraining | None, Plan | None, tuple[str, ...]]
Status = TypeVar("Status", OPTTrainingStatus, OPTServeStatus)


class Gatherer:
    """Reads everything one decision needs.

    Args:
        clock: Wall time with a zone.
    """

    def __init__(
        self, cache: Cache, coordinators: Coordinators, gateways: Gateways, settings: Settings,
        clock: Callable[[], datetime],
    ) -> None:  # fmt: skip
        self._cache, self._coordinators, self._gateways = cache, coordinators, gateways
        self._settings, self._clock = settings, clock
        self.apis: frozenset[str] = frozenset()

    def snapshot(self, key: Key, status_age_s: float, refused: str) -> Snapshot | ServeSnapshot:
        """Everything about one resource, now."""
        if key.kind == "OPTServe":
            return self._serve(key, status_age_s, refused)
        return self._training(key, status_age_s, refused)

    def _training(self, key: Key, status_age_s: float, refused: str) -> Snapshot:
        resource: ResourceView | None = self._cache.object("OPTTraining", key.namespace, key.name)
        training, plan, problems = judge(resource)
        return Snapshot(
            now=self._clock(),
            key=key,
            settings=self._settings,
            resource=resource,
            training=training,
            problems=problems,
            status=read_status(OPTTrainingStatus, resource),
            plan=plan,
            pods=self._cache.of("Pod", key),
            jobs=self._cache.of("Job", key),
            children=tuple(child for kind in CHILDREN for child in self._cache.of(kind, key)),
            nodes=self._nodes(),
            report=self._coordinators.newest(key),
            unreached_s=self._coordinators.unreached_s(key),
            apis=self.apis,
            status_age_s=status_age_s,
            refused=refused,
            progress_every_s=max(PROGRESS_EVERY_S, len(self._cache.stores["OPTTraining"].objects) / PROGRESS_PER_S),
        )

    def _serve(self, key: Key, status_age_s: float, refused: str) -> ServeSnapshot:
        resource: ResourceView | None = self._cache.object("OPTServe", key.namespace, key.name)
        serve, problems = judge_serve(resource)
        source = serve.spec.source.training if serve else None
        followed = self._cache.object("OPTTraining", key.namespace, source.name) if source else None
        return ServeSnapshot(
            now=self._clock(),
            key=key,
            settings=self._settings,
            resource=resource,
            serve=serve,
            problems=problems,
            status=read_status(OPTServeStatus, resource),
            followed=followed,
            training=judge(followed)[0],
            training_status=read_status(OPTTrainingStatus, followed),
            pods=self._cache.of("Pod", key),
            jobs=self._cache.of("Job", key),
            deployments=(*self._cache.of("Deployment", key), *self._cache.of("LeaderWorkerSet", key)),
            children=tuple(child for kind in CHILDREN for child in self._cache.of(kind, key)),
            nodes=self._nodes(),
            gateways=self._gateways.reports(key),
            unreached=self._gateways.unreached(key),
            apis=self.apis,
            status_age_s=status_age_s,
            refused=refused,
        )

    def _nodes(self) -> Mapping[str, NodeView] | None:
        if not self._cache.sees_nodes:
            return None
        return self._cache.nodes


def judge(resource: ResourceView | None) -> Judged:
    """The training and its plan, or why there is none."""
    if resource is None:
        return None, None, ()
    meta = resource.metadata
    document = {"name": meta.name, "namespace": meta.namespace, "spec": resource.spec}
    return _judge(canonical_json(document), meta.name, meta.namespace)


def judge_serve(resource: ResourceView | None) -> tuple[OPTServe | None, tuple[str, ...]]:
    """The served model, or what is wrong with it."""
    if resource is None:
        return None, ()
    meta = resource.metadata
    metadata = {"name": meta.name, "namespace": meta.namespace}
    spec = without_nulls(resource.spec)
    try:
        raw = {"apiVersion": API_VERSION, "kind": "OPTServe", "metadata": metadata, "spec": spec}
        return OPTServe.model_validate(raw), ()
    except ValidationError as fault:
        return None, _problems(fault)


def _problems(fault: ValidationError) -> tuple[str, ...]:
    return tuple(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in fault.errors()[:8])


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
        return None, None, _problems(fault)
    if training.spec.storage is None:
        return training, None, (NO_STORAGE,)
    try:
        return training, resolve(training), ()
    except (PlanError, Problems) as fault:
        return training, None, tuple(str(fault).splitlines()[:8])


def read_status(model: type[Status], resource: ResourceView | None) -> Status:
    """What we wrote last; a status that somebody broke counts field by field as far as it can be read."""
    if resource is None:
        return model()
    known: Status | None = resource.known.get(model.__name__)
    if known is None:
        known = resource.known[model.__name__] = _as_far_as_possible(model, without_nulls(resource.status))
    return known


def _as_far_as_possible(model: type[Status], raw: dict[str, Any]) -> Status:
    while True:
        try:
            return model.model_validate(raw)
        except ValidationError as fault:
            broken = {str(error["loc"][0]) for error in fault.errors()}
            raw = {name: value for name, value in raw.items() if name not in broken}
