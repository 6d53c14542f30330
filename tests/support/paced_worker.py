"""The real trainer, held back to a pace, so that a long run leaves a shared machine its breath."""

from __future__ import annotations

import os
import time

from opt_api.documents.exit_report import ExitReport
from opt_cli import worker_entry
from opt_cli.worker_faults import WorkerFaults
from opt_runtime.worker.context import WorkerContext

PACE = "OPT_TEST_STEP_SECONDS"
prepare = getattr(worker_entry, "prepare", lambda: None)


class Paced(WorkerFaults):
    """Sleeps before every step."""

    def at_step(self, step: int) -> None:
        time.sleep(float(os.environ[PACE]))
        super().at_step(step)


def run(context: WorkerContext) -> ExitReport:
    """One worker's life."""
    worker_entry.WorkerFaults = Paced
    return worker_entry.run(context)
