"""A worker: does tasks it is told on standard input, or its share of one stage when started by an Indexed Job.

One JSON line is printed for each task. In a Job, completion index `i` of `n` does tasks i, i + n, i + 2n, ...
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from opt_api.documents.exit_report import EXIT_CODES, ExitCause
from opt_dataprep.errors import DataprepError, NoScratch
from opt_dataprep.work.memory import give_memory_back
from opt_dataprep.work.preparation import Preparation, load_preparation
from opt_dataprep.work.stage import run_task
from opt_dataprep.work.table import BY_NAME
from opt_store import StoreError, open_store

_CAUSES: tuple[tuple[type[Exception], ExitCause], ...] = (
    (NoScratch, "BadHost"),
    (DataprepError, "BadData"),
    (StoreError, "StoreUnavailable"),
)
"""What an error says of the cause; the first that matches. A Job's failure policy reads the exit code."""
_KEPT = ("documents", "dropped", "tokens", "kept")


def run_stage(preparation: Preparation, stage: str, index: int, completions: int) -> Iterator[dict[str, Any]]:
    """Do the tasks of one completion of an Indexed Job; yield a line for each.

    Args:
        preparation: From `load_preparation`.
        stage: Name in `opt_dataprep.work.table.STAGES`.
        index: The job's completion index.
        completions: The job's completions; any number, also more than there are tasks.

    Raises:
        DataprepError, StoreError: As `run_task`.
    """
    give_memory_back()
    for task in range(index, BY_NAME[stage].count(preparation), completions):
        yield do(preparation, stage, task)


def do(preparation: Preparation, stage: str, index: int) -> dict[str, Any]:
    """Do one task and describe it."""
    commit, reused = run_task(preparation, BY_NAME[stage], index)
    told = {name: commit.facts[name] for name in _KEPT if name in commit.facts}
    return {"stage": stage, "index": index, "reused": reused, "facts": told}


def _serve(load: Callable[[], Preparation]) -> int:
    """Do what standard input says. A preparation that cannot be loaded is the answer to the first task."""
    give_memory_back()
    loaded = cache(load)
    for line in sys.stdin:
        stage, index = line.split()
        try:
            print(json.dumps(_answer(loaded, stage, int(index))), flush=True)
        except BrokenPipeError:
            return 1  # the driver is gone; what was done is committed
    return 0


def _answer(loaded: Callable[[], Preparation], stage: str, index: int) -> dict[str, Any]:
    try:
        return do(loaded(), stage, index)
    except (DataprepError, StoreError) as fault:
        return {"error": type(fault).__name__, "message": str(fault)}
    except Exception as fault:  # noqa: BLE001 - whatever it is, the driver is told and stops
        return {"error": type(fault).__name__, "message": traceback.format_exc()}


def exit_code(fault: DataprepError | StoreError) -> int:
    """What a process that ended by this error exits with."""
    return next(EXIT_CODES[cause] for kind, cause in _CAUSES if isinstance(fault, kind))


def main(arguments: list[str] | None = None) -> int:
    """Entry of `python -m opt_dataprep.work.worker`; exit codes as in `EXIT_CODES`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, help="URL of the store")
    parser.add_argument("--plan", required=True, help="key of plan.json in it")
    parser.add_argument("--stage", choices=sorted(BY_NAME))
    parser.add_argument("--index", type=int, default=int(os.environ.get("JOB_COMPLETION_INDEX", "0")))
    parser.add_argument("--completions", type=int, default=1)
    options = parser.parse_args(arguments)

    def load() -> Preparation:
        return load_preparation(open_store(options.store), options.plan)

    if options.stage is None:
        return _serve(load)
    try:
        for line in run_stage(load(), options.stage, options.index, options.completions):
            print(json.dumps(line), flush=True)
    except (DataprepError, StoreError) as fault:
        print(f"{type(fault).__name__}: {fault}", file=sys.stderr)
        return exit_code(fault)
    return 0


if __name__ == "__main__":
    sys.exit(main())
