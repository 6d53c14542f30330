"""A run's checkpoints in its store: which there are, whether they are whole, one of them opened, its data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from opt_api.documents.keys import manifest_key, plan_key
from opt_api.documents.manifests import CheckpointManifest, State
from opt_api.documents.plan import Plan
from opt_store import NotFound, Store, StoreError, digest_of, open_object
from opt_trainer.checkpoint.catalog import Found, catalog
from opt_trainer.checkpoint.contents import Contents, open_contents
from opt_trainer.checkpoint.errors import BadCheckpoint
from opt_trainer.checkpoint.verify import problems_of

MARKS = ("KnownGood", "Pinned")
DATASETS = "data/"
MANIFEST = "manifest.json"


class NoSuchCheckpoint(Exception):  # noqa: N818 - caught by what is the case
    """The run has no checkpoint that fits what was asked for; the message says which it has."""


@dataclass(frozen=True, slots=True)
class DatasetPlace:
    """Where a data set's manifest lies."""

    store: Store
    key: str


def state_of(found: Found) -> State:
    """Of a checkpoint, from the objects that are there."""
    if not found.complete:
        return "Uploading"
    return "Poisoned" if found.marked("Poisoned") else "Verified" if found.marked("Verified") else "Complete"


def checkpoints_of(store: Store, run: str, *, verify: bool = False) -> Iterator[dict[str, Any]]:
    """One document for each checkpoint, newest first; with `verify` every byte of each is read.

    Raises:
        opt_store.StoreError: The store does not answer.
    """
    for found in catalog(store, run):
        told: dict[str, Any] = {
            "step": found.step,
            "attempt": found.attempt,
            "state": state_of(found),
            "marks": [name for name in MARKS if found.marked(name)],
            "bytes": found.size,
            "prefix": found.prefix,
        }
        if found.complete:
            told |= _manifest_of(store, found)
        if verify and found.complete:
            told["problems"] = problems_of(store, found.prefix)
        yield told


def _manifest_of(store: Store, found: Found) -> dict[str, Any]:
    try:
        manifest = open_contents(store, found.prefix).manifest
    except (BadCheckpoint, NotFound) as problem:
        return {"problem": str(problem)}
    return {
        "time": manifest.time.isoformat(),
        "tokens": manifest.tokens,
        "loss": manifest.loss,
        "validationLoss": manifest.validation_loss,
        "worldSize": manifest.world_size,
        "lineage": manifest.lineage.wire(),
    }


def open_checkpoint(store: Store, run: str, step: int | None) -> Contents:
    """The newest checkpoint that can be loaded, or that of a step.

    Raises:
        NoSuchCheckpoint: There is none.
        BadCheckpoint: Its manifest is not what it was.
        opt_store.StoreError: The store does not answer.
    """
    found = catalog(store, run)
    of_step = [f for f in found if step in {None, f.step}]
    whole = [f for f in of_step if state_of(f) in {"Complete", "Verified"}]
    if whole:
        return open_contents(store, whole[0].prefix)
    wanted = "that can be loaded" if step is None else f"of step {step} that can be loaded"
    raise NoSuchCheckpoint(f"run {run!r}: found no checkpoint {wanted}; it has: {listing_of(found)}")


def listing_of(found: Sequence[Found]) -> str:
    """Steps and states, in words."""
    return ", ".join(f"{f.step} ({state_of(f)})" for f in found) or "none at all"


def plan_of(store: Store, run: str) -> Plan:
    """The plan that the run was begun with.

    Raises:
        opt_store.NotFound: There is none.
    """
    return Plan.from_bytes(store.get(plan_key(run)))


def dataset_of(store: Store, run: str, manifest: CheckpointManifest | None, given: str | None) -> DatasetPlace:
    """The data set that a run trains on: as given, as its plan names it, or the one in its store with the right digest.

    Raises:
        opt_store.NotFound: None of these.
    """
    uri = given or plan_of(store, run).data.dataset
    if uri:
        return DatasetPlace(*open_object(uri))
    wanted = manifest.lineage.dataset if manifest else None
    keys = [info.key for info in store.list(DATASETS) if info.key.count("/") == 2 and info.key.endswith(MANIFEST)]
    fitting = [key for key in keys if wanted is None or digest_of(store.get(key)) == wanted]
    if len(fitting) != 1:
        raise NotFound(
            f"run {run!r}: {len(fitting)} of the {len(keys)} data sets in {store.url} can be its own; "
            "name the manifest's URI with --dataset"
        )
    return DatasetPlace(store, fitting[0])


def newest_manifest(store: Store, run: str) -> CheckpointManifest | None:
    """Of the newest checkpoint whose manifest is sound; None if there is none."""
    for found in catalog(store, run):
        try:
            return CheckpointManifest.from_bytes(store.get(manifest_key(found.prefix)))
        except (StoreError, ValueError):
            continue
    return None
