"""What one worker is told: by arguments and environment, or by whoever calls it in a forked child."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from torch.distributed.distributed_c10d import Store

from opt_api.documents.heartbeat import Heartbeat
from opt_api.documents.plan import Plan
from opt_trainer.checkpoint.job import StoreAddress
from opt_trainer.errors import BadSpec
from opt_trainer.loop.memory import Memory
from opt_trainer.program.heartbeats import HeartbeatFile


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """One worker's orders.

    Attributes:
        plan: What to train.
        store: Where checkpoints and records of the run go.
        attempt: Number of the attempt.
        rank, world_size, local_rank: Place in the gang and on the host.
        work: Local folder of this host: shards, records, exit reports.
        dataset: URI of the data set's manifest; the plan's own where that names one.
        dataset_digest: Digest that the manifest must have.
        disk: Bytes of local disk that this host may fill; None where nothing but the disk bounds it.
        changes: Folder in which live changes appear as `<sequence>.json`.
        report: Where the exit report is written; `exit-<rank>.json` in `work` when absent.
        stop_seconds: Bound from a stop request to the end of the process.
        threads: Threads of torch's own kernels on the CPU; None to leave torch's setting, which OMP_NUM_THREADS makes.
        metrics_port: Port of the first local rank's metrics; later ranks take the following ones. None for no metrics.
        heartbeat: Takes heartbeats and must not wait; None to send none.
        memory: Keeps the newest states of this rank; None to keep none.
        memory_step: Step to begin from that lies there; None to begin from the store.
        meeting: Store at which the gang meets, already scoped to the attempt; None to meet at MASTER_ADDR:MASTER_PORT.
    """

    plan: Plan
    store: StoreAddress
    attempt: int
    rank: int
    world_size: int
    local_rank: int
    work: Path
    dataset: str
    dataset_digest: str | None = None
    disk: int | None = None
    changes: Path | None = None
    report: Path | None = None
    stop_seconds: float = 60.0
    threads: int | None = None
    metrics_port: int | None = None
    heartbeat: Callable[[Heartbeat], None] | None = None
    memory: Memory | None = None
    memory_step: int | None = None
    meeting: Store | None = None

    @property
    def report_path(self) -> Path:
        """File of the exit report."""
        return self.report or self.work / f"exit-{self.rank}.json"


def parser() -> argparse.ArgumentParser:
    """The command line; the place in the gang comes from the environment, as torchrun sets it."""
    p = argparse.ArgumentParser(
        prog="python -m opt_trainer",
        description="Train one worker's part of a plan. RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT come "
        "from the environment, as torchrun sets them; without them it is one worker alone.",
    )
    p.add_argument("--plan", type=Path, required=True, help="plan.json, as `optctl plan` or the operator writes it")
    p.add_argument("--store", required=True, help="file:///folder or s3://bucket/prefix; S3 settings from AWS_*")
    p.add_argument("--attempt", type=int, required=True, help="number of this attempt; higher ones fence lower ones")
    p.add_argument("--work", type=Path, required=True, help="local folder for shards, records and the exit report")
    p.add_argument("--dataset", help="URI of the data set's manifest, where the plan names none")
    p.add_argument("--dataset-digest", help="sha256:... that the data set's manifest must have")
    p.add_argument("--changes", type=Path, help="folder in which live changes appear as <sequence>.json")
    p.add_argument("--report", type=Path, help="where the exit report goes; also /dev/termination-log in a pod")
    p.add_argument("--stop-seconds", type=float, default=60.0, help="bound from SIGTERM to the end")
    p.add_argument("--threads", type=int, help="threads of torch on the CPU; OMP_NUM_THREADS when absent")
    p.add_argument("--heartbeats", type=Path, help="folder in which the newest heartbeat of each rank is kept")
    p.add_argument("--metrics-port", type=int, help="serve Prometheus metrics from this port on")
    return p


def configure(a: argparse.Namespace, environment: Mapping[str, str]) -> WorkerConfig:
    """From parsed arguments and the environment.

    Raises:
        BadSpec: The plan cannot be read, or no data set is named.
    """
    plan = read_plan(a.plan)
    return WorkerConfig(
        plan=plan,
        store=StoreAddress(url=a.store),
        attempt=a.attempt,
        rank=int(environment.get("RANK", "0")),
        world_size=int(environment.get("WORLD_SIZE", "1")),
        local_rank=int(environment.get("LOCAL_RANK", "0")),
        work=a.work,
        dataset=_dataset(plan, a.dataset),
        dataset_digest=a.dataset_digest,
        changes=a.changes,
        report=a.report,
        stop_seconds=a.stop_seconds,
        threads=a.threads,
        metrics_port=a.metrics_port,
        heartbeat=HeartbeatFile(a.heartbeats, int(environment.get("RANK", "0"))) if a.heartbeats else None,
    )


def read_plan(path: Path) -> Plan:
    """Read a plan.

    Raises:
        BadSpec: It is not there, or is no plan of a known version.
    """
    try:
        return Plan.from_bytes(path.read_bytes())
    except (OSError, ValidationError) as problem:
        raise BadSpec(f"plan {path}: {problem}") from problem


def _dataset(plan: Plan, given: str | None) -> str:
    found = given or plan.data.dataset
    if not found:
        raise BadSpec("data set: found neither --dataset nor data.dataset in the plan; name the manifest's URI")
    return found
