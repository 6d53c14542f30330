"""`python -m opt_trainer`: one worker as a program, under torchrun or alone."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from opt_api.documents.exit_report import EXIT_CODES, ExitReport
from opt_trainer.errors import BadSpec
from opt_trainer.program import ending
from opt_trainer.program.config import configure, parser
from opt_trainer.program.worker import run


def main() -> int:
    """Run; returns the exit code of the report's cause."""
    arguments = parser().parse_args()
    try:
        config = configure(arguments, os.environ)
    except BadSpec as problem:
        report = _refused(arguments, problem)
    else:
        report = run(config)
    if report.cause not in {"Completed", "Stopped"}:
        sys.stderr.write(f"{report.cause} at step {report.step}: {report.message}\n")
    return EXIT_CODES[report.cause]


def _refused(arguments: argparse.Namespace, problem: BadSpec) -> ExitReport:
    rank = int(os.environ.get("RANK", "0"))
    report = ExitReport(
        cause="BadSpec", message=ending.message_of(problem), attempt=arguments.attempt, rank=rank, step=0
    )
    path: Path = arguments.report or arguments.work / f"exit-{rank}.json"
    ending.write(report, path)
    return report


if __name__ == "__main__":
    sys.exit(main())
