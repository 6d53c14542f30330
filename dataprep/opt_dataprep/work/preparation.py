"""One preparation: a plan and the place in the store where its parts and its data set come to lie."""

from __future__ import annotations

from dataclasses import dataclass, field

from opt_api.canonical import digest_of
from opt_api.documents.dataprep import DataprepPlan, StageIndex
from opt_store import Store

WORK = "work"
"""Folder of the parts' outputs, shared by all data sets under one prefix."""


@dataclass
class Preparation:
    """What every task is given.

    Attributes:
        store: Where everything is written.
        prefix: Folder in it; ends without a slash.
        plan: The plan.
        indexes: Stage indexes read so far.
        digests: Digests of the results of whole stages, made so far.
    """

    store: Store
    prefix: str
    plan: DataprepPlan
    indexes: dict[str, StageIndex] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.identity = self.plan.digest()

    @property
    def dataset(self) -> str:
        """Key prefix of the data set, named by the plan's digest."""
        return f"{self.prefix}/{self.identity.removeprefix('sha256:')[:16]}"

    @property
    def manifest_key(self) -> str:
        """Key of the manifest."""
        return f"{self.dataset}/manifest.json"

    @property
    def plan_key(self) -> str:
        """Key of the plan."""
        return f"{self.dataset}/{DataprepPlan.file_name}"

    def work(self, stage: str, identity: str) -> str:
        """Key prefix of one task's output."""
        return f"{self.prefix}/{WORK}/{stage}/{identity.removeprefix('sha256:')[:32]}"

    def task_identity(self, stage: str, inputs: object) -> str:
        """Digest of all that shapes a task's output."""
        return digest_of({"stage": stage, "code": self.plan.code, "inputs": inputs})


def save_plan(store: Store, prefix: str, plan: DataprepPlan) -> Preparation:
    """Write the plan beside the data set it describes and return the preparation."""
    preparation = Preparation(store, prefix, plan)
    data = plan.to_bytes()
    if not store.exists(preparation.plan_key):
        store.upload(preparation.plan_key, [data])
    return preparation


def load_preparation(store: Store, plan_key: str) -> Preparation:
    """Read a plan that `save_plan` wrote.

    Raises:
        NotFound: There is none.
    """
    prefix = plan_key.rpartition("/")[0].rpartition("/")[0]
    return Preparation(store, prefix, DataprepPlan.from_bytes(store.get(plan_key)))
