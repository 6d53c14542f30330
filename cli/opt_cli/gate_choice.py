"""Which checkpoint of a run is to be served: only Verified ones, by what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import fmean

from opt_api.documents.keys import manifest_key, served_key
from opt_api.documents.manifests import CheckpointManifest, CheckpointMark
from opt_store import NotFound, Store, digest_of
from opt_trainer.checkpoint.catalog import Found, catalog


@dataclass(frozen=True)
class Candidate:
    """A Verified checkpoint with its manifest and the manifest's digest."""

    found: Found
    manifest: CheckpointManifest
    digest: str


@dataclass(frozen=True)
class Nothing:
    """None fits; `later` is when one that is too young will be old enough."""

    reason: str
    later: datetime | None = None


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        checkpoint: `latest`, `best`, or a step.
        current: Digest of what is served.
        rejected: Digests that are not to be served.
    """

    checkpoint: str
    now: datetime
    min_age: timedelta = timedelta()
    current: str | None = None
    rejected: frozenset[str] = frozenset()


def candidates(store: Store, run: str) -> list[Candidate]:
    """The Verified checkpoints of a run, newest first; one that vanishes meanwhile is none."""
    made = []
    for found in catalog(store, run):
        if found.complete and found.marked("Verified") and not found.marked("Poisoned"):
            try:
                data = store.get(manifest_key(found.prefix))
                made.append(Candidate(found, CheckpointManifest.from_bytes(data), digest_of(data)))
            except (NotFound, ValueError):
                continue
    return made


def choose(known: Sequence[Candidate], wish: Wish) -> Candidate | Nothing:
    """The one to serve. Pure."""
    if not known:
        return Nothing("the training has no Verified checkpoint yet")
    allowed = [c for c in known if c.digest not in wish.rejected]
    if wish.checkpoint.isdecimal():
        allowed = [c for c in allowed if c.manifest.step == int(wish.checkpoint)]
    if not allowed:
        steps = ", ".join(str(c.manifest.step) for c in known)
        return Nothing(f"no Verified checkpoint fits {wish.checkpoint!r} that was not rejected; found steps {steps}")
    old = [c for c in allowed if wish.now - c.manifest.time >= wish.min_age]
    if not old:
        later = min(c.manifest.time for c in allowed) + wish.min_age
        return Nothing(f"every Verified checkpoint is younger than {wish.min_age.total_seconds():.0f} s", later)
    return _best(old) if wish.checkpoint == "best" else old[0]


def _best(old: Sequence[Candidate]) -> Candidate | Nothing:
    """The lowest validation loss, as the mean over sources."""
    measured = [c for c in old if c.manifest.validation_loss]
    if not measured:
        return Nothing(
            "no Verified checkpoint has a validation loss; evaluation.intervalSteps says when one is measured"
        )
    return min(measured, key=lambda c: fmean(c.manifest.validation_loss.values()))


def mark_served(store: Store, run: str, serve: str, digests: set[str]) -> None:
    """Keep retention away from these checkpoints, and from no other on behalf of this served model."""
    for found in catalog(store, run):
        if not found.complete:
            continue
        key = served_key(found.prefix, serve)
        marked = key in found.keys
        digest = digest_of(store.get(manifest_key(found.prefix))) if digests or marked else ""
        if digest in digests and not marked:
            mark = CheckpointMark(mark="Served", manifest=digest, time=datetime.now(UTC), by=f"OPTServe {serve}")
            store.put(key, mark.sealed().to_bytes())
        elif marked and digest not in digests:
            store.delete(key)
