"""What a stage is, and one task of it: done once, found again by the digest of what shapes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from opt_api.documents.dataprep import PartCommit
from opt_api.documents.manifests import ObjectEntry
from opt_dataprep.work.preparation import Preparation
from opt_store import NotFound, Source

COMMIT = "commit.json"


@dataclass
class Task:
    """One task while it runs."""

    preparation: Preparation
    stage: str
    index: int
    identity: str
    objects: list[ObjectEntry] = field(default_factory=list)

    def emit(self, name: str, content: Source) -> None:
        """Write an object of this task, under a name that is the digest of what shapes it."""
        self._write(f"{self.preparation.work(self.stage, self.identity)}/{name}", content)

    def publish(self, name: str, content: Source) -> None:
        """Write an object of the data set itself."""
        self._write(f"{self.preparation.dataset}/{name}", content)

    def _write(self, key: str, content: Source) -> None:
        info = self.preparation.store.upload(key, content)
        assert info.digest is not None
        relative = key.removeprefix(f"{self.preparation.prefix}/")
        self.objects.append(ObjectEntry(key=relative, size=info.size, digest=info.digest))


@dataclass(frozen=True)
class Stage:
    """A number of tasks that may run in any order, on any number of workers, once the stages before are done.

    Attributes:
        name: In keys, events and job names.
        title: For people.
        count: Number of tasks; it may read the results of stages before.
        inputs: All that shapes the task's output, besides the code: a JSON value.
        run: Does the task and returns its facts.
    """

    name: str
    title: str
    count: Callable[[Preparation], int]
    inputs: Callable[[Preparation, int], Any]
    run: Callable[[Task], dict[str, Any]]

    def identity(self, preparation: Preparation, index: int) -> str:
        """Digest that names the task's output."""
        return preparation.task_identity(self.name, self.inputs(preparation, index))


def find_commit(preparation: Preparation, stage: Stage, index: int) -> PartCommit | None:
    """Return the task's commit if an earlier try has written it."""
    identity = stage.identity(preparation, index)
    try:
        return PartCommit.from_bytes(preparation.store.get(commit_key(preparation, stage, identity)))
    except NotFound:
        return None


def run_task(preparation: Preparation, stage: Stage, index: int) -> tuple[PartCommit, bool]:
    """Do one task unless it is done; return its commit and whether it was found.

    Raises:
        DataprepError, StoreError: Nothing was committed.
    """
    found = find_commit(preparation, stage, index)
    if found is not None:
        return found, True
    task = Task(preparation, stage.name, index, stage.identity(preparation, index))
    facts = stage.run(task)
    commit = PartCommit(stage=stage.name, identity=task.identity, objects=tuple(task.objects), facts=facts)
    preparation.store.put(commit_key(preparation, stage, task.identity), commit.to_bytes())
    return commit, False


def commit_key(preparation: Preparation, stage: Stage, identity: str) -> str:
    """Key of a task's commit."""
    return f"{preparation.work(stage.name, identity)}/{COMMIT}"
