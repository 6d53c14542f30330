"""What a forked worker runs: the trainer, told by the runtime. Only the command line knows both."""

from __future__ import annotations

import os
from pathlib import Path

from opt_api.documents.exit_report import ExitReport
from opt_api.documents.plan import Plan
from opt_api.resolve.resized import resized
from opt_cli.worker_entry_names import DATASET, DISK, FAULTS, PLAN, STORE
from opt_cli.worker_faults import WorkerFaults
from opt_cli.worker_telemetry import WorkerTelemetry
from opt_runtime.rendezvous.joining import join
from opt_runtime.worker.context import WorkerContext
from opt_trainer.checkpoint.job import StoreAddress
from opt_trainer.program.config import WorkerConfig
from opt_trainer.program.rehearsal import rehearse
from opt_trainer.program.worker import run as train
from opt_trainer.state import RunIdentity


def prepare() -> None:
    """Have everything at hand that a first step needs, in the process that workers are forked from."""
    rehearse(Plan.from_bytes(Path(os.environ[PLAN]).read_bytes()))


def run(context: WorkerContext) -> ExitReport:
    """One worker's life, see `opt_trainer.program.worker.run`."""
    order = context.order
    plan = Plan.from_bytes(Path(os.environ[PLAN]).read_bytes())
    faults = WorkerFaults(Path(os.environ[FAULTS]), order.rank) if FAULTS in os.environ else None
    config = WorkerConfig(
        plan=_as_measured(resized(plan, order.world_size // plan.layout.devices_per_host), order.hours_between_faults),
        store=StoreAddress(url=os.environ[STORE]),
        attempt=order.attempt,
        rank=order.rank,
        world_size=order.world_size,
        local_rank=order.local_rank,
        work=Path(order.directory),
        dataset=os.environ[DATASET],
        disk=int(os.environ[DISK]) if DISK in os.environ else None,
        changes=context.changes,
        memory=context.memory if plan.checkpointing.memory_tier else None,
        memory_step=order.restore_step if order.from_memory else None,
        meeting=join(order) if order.world_size > 1 else None,
    )

    def telemetry(worker: WorkerConfig, identity: RunIdentity) -> WorkerTelemetry:
        return WorkerTelemetry(worker, identity, order.host, context.heartbeat, faults, done=context.step)

    return train(config, telemetry)


def _as_measured(plan: Plan, hours_between_faults: float | None) -> Plan:
    """The plan with faults as often as they were seen; only an interval that the formula chooses follows them."""
    if hours_between_faults is None:
        return plan
    known = plan.checkpointing.model_copy(update={"assumed_hours_between_faults": hours_between_faults})
    return plan.model_copy(update={"checkpointing": known})
