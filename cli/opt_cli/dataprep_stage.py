"""`python -m opt_cli.dataprep_stage`: what data preparation's Jobs run in a cluster.

`plan` finds the sources and says which stages are to run; `stage` is one completion of a stage's Indexed Job.
Both leave a `PreparationReport` as their container's termination message, for an operator that has no credentials.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from opt_api.documents.plan import Plan
from opt_api.documents.preparation_report import PreparationReport
from opt_cli.process_one import end_on_sigterm
from opt_cli.termination import leave
from opt_dataprep.errors import DataprepError
from opt_dataprep.planning import make_plan
from opt_dataprep.work.driver import PREFIX, find_manifest
from opt_dataprep.work.preparation import Preparation, load_preparation, save_plan
from opt_dataprep.work.table import STAGES
from opt_dataprep.work.worker import exit_code
from opt_dataprep.work.worker import main as work
from opt_store import StoreError, open_store

INDEX = "JOB_COMPLETION_INDEX"
NAMES = tuple(stage.name for stage in STAGES)


def report(preparation: Preparation, done: str | None = None) -> PreparationReport:
    """Where a preparation stands, `done` being the stage that is complete; with the manifest nothing is left to do."""
    manifest = find_manifest(preparation)
    if manifest is None:
        left = NAMES[NAMES.index(done) + 1 :] if done else NAMES
        return PreparationReport(plan=preparation.plan_key, stages=left)
    return PreparationReport(
        plan=preparation.plan_key,
        dataset=f"{preparation.store.url}/{preparation.manifest_key}",
        manifest_digest=manifest.digest(),
        train_blocks=manifest.train_blocks,
    )


def plan_preparation(plan: Plan, url: str) -> PreparationReport:
    """Plan the preparation that a training's plan asks for, and look whether it is done.

    Raises:
        DataprepError: The sources are at fault.
        StoreError: The store is.
    """
    store = open_store(url)
    store.check_access()
    return report(save_plan(store, PREFIX, make_plan(plan.data)))


def main(arguments: list[str] | None = None) -> int:
    """Exit codes as in `EXIT_CODES`."""
    end_on_sigterm()
    given = _parser().parse_args(arguments)
    if given.command == "stage":
        code = work(["--store", given.store, "--plan", given.plan, "--stage", given.stage,
                     "--completions", str(given.completions)])  # fmt: skip
        if code == 0 and os.environ.get(INDEX, "0") == "0":
            done = report(load_preparation(open_store(given.store), given.plan), given.stage)
            leave(done.to_bytes().decode())
        return code
    try:
        found = plan_preparation(Plan.from_bytes(Path(given.plan).read_bytes()), given.store)
        leave(found.to_bytes().decode())
    except (DataprepError, StoreError) as fault:
        print(f"{type(fault).__name__}: {fault}", file=sys.stderr)
        return exit_code(fault)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser("plan")
    stage = commands.add_parser("stage")
    for command, what in ((plan, "file with the training's plan"), (stage, "key of the preparation's plan")):
        command.add_argument("--store", required=True, help="URL of the store")
        command.add_argument("--plan", required=True, help=what)
    stage.add_argument("--stage", choices=NAMES, required=True)
    stage.add_argument("--completions", type=int, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
