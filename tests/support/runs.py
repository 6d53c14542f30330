"""Whole runs in a folder: a data set, a plan, and gangs of workers on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opt_api.documents.plan import Plan
from opt_store import Store, open_store
from opt_trainer.checkpoint.job import StoreAddress
from opt_trainer.program.config import WorkerConfig
from support.datasets import write_dataset
from support.gloo import free_port
from support.plans import BATCH, SEQUENCE, tiny_plan
from support.recorder import losses_of
from support.warm import Job

WITH_DROPOUT = {"dropout": 0.1, "attentionDropout": 0.1}


def plan_for(steps: int, workers: int = 1, save_every: int = 3, **changed: Any) -> Plan:
    """A tiny plan of so many steps, with dropout, on so many workers of one host."""
    sections: dict[str, dict[str, Any]] = {
        "model": WITH_DROPOUT,
        "optimisation": {"totalTokens": steps * BATCH * SEQUENCE, "warmupTokens": 2 * BATCH * SEQUENCE},
        "parallelism": {"devicesPerHost": workers},
        "checkpointing": {"interval": {"steps": save_every}, "export": False},
        "evaluation": {"intervalSteps": 10_000},
    }
    for section, fields in changed.items():
        sections[section] = {**sections.get(section, {}), **fields}
    return tiny_plan(**sections)


@dataclass
class RunFolder:
    """Everything of one run lies under `root`."""

    root: Path
    blocks: int = 64
    vocabulary: int = 96

    def __post_init__(self) -> None:
        (self.root / "store").mkdir(parents=True)
        write_dataset(
            self.store, "data", train=(self.blocks - 9, 9), sequence_length=SEQUENCE, vocabulary=self.vocabulary
        )

    @property
    def url(self) -> str:
        return f"file://{self.root}/store"

    @property
    def store(self) -> Store:
        return open_store(self.url)

    def gang(self, plan: Plan, attempt: int, memory_limit: int | None = None, **more: Any) -> list[Job]:
        """One attempt's workers."""
        world = plan.layout.world_size
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        work = self.root / "work"
        configs = [
            WorkerConfig(
                **{
                    "plan": plan,
                    "store": StoreAddress(url=self.url),
                    "attempt": attempt,
                    "rank": rank,
                    "world_size": world,
                    "local_rank": rank,
                    "work": work,
                    "dataset": f"{self.url}/data/manifest.json",
                    "threads": 1,
                    **more,
                }
            )
            for rank in range(world)
        ]
        return [Job(config, meet, memory_limit) for config in configs]

    def losses(self, rank: int = 0) -> dict[int, str]:
        """Last recorded loss of each step, exact."""
        return losses_of(self.root / "work" / f"series-{rank}")
