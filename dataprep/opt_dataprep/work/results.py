"""Results of the stages before, for a task: their commits, and the objects these name."""

from __future__ import annotations

from typing import Any

from opt_api.canonical import digest_of
from opt_api.documents.dataprep import PartCommit, StageIndex
from opt_api.documents.manifests import ObjectEntry
from opt_dataprep.work.preparation import WORK, Preparation
from opt_dataprep.work.stage import Stage, find_commit
from opt_store import NotFound

_REGISTRY: dict[str, Stage] = {}


def register(*stages: Stage) -> None:
    """Make stages known by name, so that later ones can ask for their results."""
    _REGISTRY.update({stage.name: stage for stage in stages})


def commits_of(preparation: Preparation, name: str) -> tuple[PartCommit, ...]:
    """Return all commits of a stage, in order.

    They are gathered into one object the first time, so that a later worker reads one and not thousands.

    Raises:
        NotFound: A task of the stage has no commit yet.
    """
    if name not in preparation.indexes:
        preparation.indexes[name] = _index(preparation, _REGISTRY[name])
    return preparation.indexes[name].commits


def _index(preparation: Preparation, stage: Stage) -> StageIndex:
    count = stage.count(preparation)
    identities = [stage.identity(preparation, i) for i in range(count)]
    key = f"{preparation.prefix}/{WORK}/{stage.name}-index/{digest_of(identities).removeprefix('sha256:')[:32]}.json"
    try:
        return StageIndex.from_bytes(preparation.store.get(key))
    except NotFound:
        commits = [find_commit(preparation, stage, i) for i in range(count)]
    missing = [i for i, commit in enumerate(commits) if commit is None]
    if missing:
        raise NotFound(
            f"stage {stage.name!r} of {preparation.plan_key}: tasks {missing[:10]} are not done; run it first"
        )
    index = StageIndex(stage=stage.name, commits=tuple(commit for commit in commits if commit is not None))
    preparation.store.put(key, index.to_bytes())
    return index


def results_digest(preparation: Preparation, name: str) -> str:
    """Digest of a stage's results: all objects and facts of all its tasks."""
    if name not in preparation.digests:
        results = [[c.facts, [o.digest for o in c.objects]] for c in commits_of(preparation, name)]
        preparation.digests[name] = digest_of(results)
    return preparation.digests[name]


def result_digest(preparation: Preparation, name: str, index: int) -> str:
    """Digest of one task's result."""
    commit = commits_of(preparation, name)[index]
    return digest_of([commit.facts, [o.digest for o in commit.objects]])


def entry(commit: PartCommit, name: str) -> ObjectEntry:
    """Return the entry of a task's object by the last part of its key."""
    return next(o for o in commit.objects if o.key.rpartition("/")[2] == name)


def read(preparation: Preparation, commit: PartCommit, name: str) -> bytes:
    """Read a task's object whole and check it."""
    found = entry(commit, name)
    return preparation.store.get(f"{preparation.prefix}/{found.key}", expect=found.digest)


def read_range(preparation: Preparation, commit: PartCommit, name: str, offset: int, length: int) -> bytes:
    """Read a range of a task's object."""
    if not length:
        return b""
    return preparation.store.read_range(f"{preparation.prefix}/{entry(commit, name).key}", offset, length)


def facts(preparation: Preparation, name: str) -> list[dict[str, Any]]:
    """Facts of all tasks of a stage."""
    return [commit.facts for commit in commits_of(preparation, name)]
