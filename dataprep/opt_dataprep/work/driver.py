"""The local driver: the same stages as in a cluster, one after the other, with worker processes on this machine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opt_api.documents.dataprep import PreparationEvent
from opt_api.documents.manifests import DatasetManifest
from opt_api.training.data import DataSpec
from opt_dataprep.dedup.drops import REASONS
from opt_dataprep.planning import make_plan
from opt_dataprep.work.pool import Pool
from opt_dataprep.work.preparation import Preparation, save_plan
from opt_dataprep.work.table import STAGES
from opt_store import NotFound, open_store

PREFIX = "data"
"""Where a run keeps its data sets in its store."""

Listener = Callable[[PreparationEvent], None]


@dataclass(frozen=True)
class Prepared:
    """A finished data set."""

    uri: str
    manifest: DatasetManifest


def prepare(
    data: DataSpec, store_url: str, *, workers: int | None = None, told: Listener | None = None, prefix: str = PREFIX
) -> Prepared:
    """Prepare a data set, or find it: the same spec, sources and code give the same data set.

    Args:
        data: The spec; it must have sources.
        store_url: Where everything is written, see `opt_store.open_store`.
        workers: Processes; the spec's number when None. The result does not depend on it.
        told: Called with every event.
        prefix: Folder in the store.

    Raises:
        DataprepError: The input or the settings are at fault; there is no manifest.
        StoreError: The store failed; there is no manifest, what was committed is used by the next try.
    """
    store = open_store(store_url)
    store.check_access()
    preparation = save_plan(store, prefix, make_plan(data))
    tally = Tally(preparation, told or (lambda event: None))
    found = find_manifest(preparation)
    if found is None:
        _run_stages(preparation, workers or data.workers, tally)
        found = find_manifest(preparation)
        assert found is not None
    uri = f"{store.url}/{preparation.manifest_key}"
    tally.finish(uri)
    return Prepared(uri, found)


def find_manifest(preparation: Preparation) -> DatasetManifest | None:
    """The manifest, if the data set is finished."""
    try:
        return DatasetManifest.from_bytes(preparation.store.get(preparation.manifest_key))
    except NotFound:
        return None


def _run_stages(preparation: Preparation, workers: int, tally: Tally) -> None:
    pool = Pool(preparation.store.url, preparation.plan_key, workers)
    try:
        for stage in STAGES:
            count = stage.count(preparation)
            if count:
                tally.begin(stage.name, count)
                pool.run(stage.name, [str(i) for i in range(count)], tally.add)
                tally.retries = pool.losses
    finally:
        pool.close()


class Tally:
    """Turns workers' answers into events."""

    def __init__(self, preparation: Preparation, told: Listener) -> None:
        self._parts, self._told = preparation.plan.parts, told
        self._began = time.monotonic()
        self._documents = 0
        self._dropped: Counter[str] = Counter()
        self.retries = 0

    def begin(self, stage: str, tasks: int, uri: str | None = None) -> None:
        """Start counting another stage."""
        self._stage, self._tasks, self._done, self._reused, self._bytes = stage, tasks, 0, 0, 0
        self._send(uri)

    def add(self, answer: dict[str, Any]) -> None:
        """Count one finished task."""
        self._done += 1
        self._reused += answer["reused"]
        facts = answer["facts"]
        if self._stage == "read":
            self._documents += facts["documents"]
            self._dropped.update(facts["dropped"])
        if self._stage in REASONS:
            self._dropped[REASONS[self._stage]] += facts["dropped"]
        if self._tasks == len(self._parts):
            self._bytes += self._parts[answer["index"]].size
        self._send()

    def finish(self, uri: str) -> None:
        """Say where the data set is."""
        self._stage, self._tasks, self._done, self._reused, self._bytes = "done", 1, 1, 0, 0
        self._send(uri)

    def _send(self, uri: str | None = None) -> None:
        self._told(
            PreparationEvent(
                stage=self._stage,
                done=self._done,
                tasks=self._tasks,
                bytes_done=self._bytes,
                bytes_total=sum(part.size for part in self._parts),
                seconds=time.monotonic() - self._began,
                reused=self._reused,
                retries=self.retries,
                documents=self._documents,
                dropped=dict(self._dropped),
                dataset=uri,
            )
        )
