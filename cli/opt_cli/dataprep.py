"""`optctl dataprep FILE`: the training's data set, prepared on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from opt_api.problems import Problems
from opt_cli.exits import BAD_INPUT, FAILED
from opt_cli.plan import one_training
from opt_cli.store_option import to_write


@click.command()
@click.argument("file", metavar="FILE")
@to_write
@click.option("--workers", type=click.IntRange(1, 4096), help="Worker processes; data.workers if not given.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON lines, also on a terminal.")
@click.pass_context
def dataprep(ctx: click.Context, file: str, store: str | None, workers: int | None, as_json: bool) -> None:
    """Turn an OPTTraining's sources into a data set, or find the one that is already there.

    FILE is a file with one OPTTraining, or - for standard input. The last line names the data set's manifest.
    """
    from opt_cli.dataprep_progress import listener
    from opt_dataprep.errors import DataprepError
    from opt_dataprep.work.driver import prepare
    from opt_store import StoreError

    try:
        training = one_training(file)
    except Problems as problems:
        for problem in problems.items:
            click.echo(str(problem), err=True)
        ctx.exit(BAD_INPUT)
    data = training.spec.data
    if data.sources is None:
        click.echo(f"{file}: data.dataset names a finished data set; allowed here is data.sources", err=True)
        ctx.exit(BAD_INPUT)
    url = store or local_store(training.metadata.name)
    try:
        with listener(as_json or not sys.stdout.isatty()) as told:
            prepare(data, url, workers=workers or min(data.workers, os.cpu_count() or 1), told=told)
    except (DataprepError, StoreError) as fault:
        kind = getattr(fault, "kind", type(fault).__name__)
        click.echo(f"{kind}: {fault}", err=True)
        ctx.exit(BAD_INPUT if kind == "BadInput" else FAILED)


def local_store(name: str) -> str:
    """URL of `./runs/NAME`, which is made if it is not there."""
    folder = Path("runs", name).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder.as_uri()
