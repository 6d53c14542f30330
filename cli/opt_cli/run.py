"""`optctl run FILE`: a training on this machine, from raw text to a trained, exported model."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from opt_api.problems import Problems
from opt_cli.dataprep import local_store
from opt_cli.exits import BAD_INPUT, FAILED
from opt_cli.plan import one_training
from opt_cli.store_option import to_write

if TYPE_CHECKING:
    from opt_store import Store


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--hosts", type=click.IntRange(1, 64), help="Hosts of the gang; parallelism.hosts if not given.")
@click.option("--spares", type=click.IntRange(0, 64), help="Hosts held ready; resilience.spares if not given.")
@to_write
@click.option("--fault", "faults", multiple=True, help='Such as "kill rank 1 at step 50"; may be given several times.')
@click.option("--fault-file", type=click.Path(dir_okay=False), help="YAML or JSON FaultPlan; see docs/recovery.md.")
@click.option("--check-hosts", is_flag=True, help="Burn hosts in before they may train, as in a cluster.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines, also on a terminal.")
@click.pass_context
def run(
    ctx: click.Context,
    file: str,
    hosts: int | None,
    spares: int | None,
    store: str | None,
    faults: tuple[str, ...],
    fault_file: str | None,
    check_hosts: bool,
    as_json: bool,
) -> None:
    """Run an OPTTraining on this machine: data, training with recovery, evaluation, export, logbook.

    Hosts are process groups. Ctrl-C (or SIGTERM) saves and stops; the same command goes on. Exit code 1 when the run
    is paused. With until: Data the data set is prepared and nothing is trained.
    """
    from opt_cli.fault_file import read_faults
    from opt_cli.local_run import Wish, prepare, run_cluster
    from opt_cli.run_result import result_of
    from opt_cli.run_screen import screen
    from opt_runtime.local.scratch import scratch_of
    from opt_store import StoreError

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite end saves, whoever asks for it
    try:
        training = one_training(file)
        url = store or local_store(training.metadata.name)
        machine = as_json or not sys.stdout.isatty()
        if training.spec.until == "Data":
            _show({"dataset": _dataset(training.spec.data, url, machine)}, machine)
            return
        planned = read_faults(fault_file) if fault_file else None
        wish = Wish(training, url, scratch_of(training.metadata.name), hosts, spares, faults, planned, check_hosts)
        prepared = prepare(wish)
        dataset = _dataset(wish.training.spec.data, url, machine)
        with screen(prepared.plan, machine) as told:
            ending = run_cluster(wish, prepared, dataset, told)
        if ending.outcome == "Completed":
            result = result_of(prepared.store, prepared.plan.name)
            _show({**result, "report": _report(prepared.store, prepared.plan.name)}, machine)
    except Problems as problems:
        for problem in problems.items:
            click.echo(str(problem), err=True)
        ctx.exit(BAD_INPUT)
    except StoreError as fault:
        click.echo(f"{type(fault).__name__}: {fault}", err=True)
        ctx.exit(FAILED)
    if ending.outcome == "Paused":
        why = f": {ending.words}" if ending.words else ""
        click.echo(f"paused for {ending.cause}{why}; see `optctl logbook {training.metadata.name}`", err=True)
        ctx.exit(FAILED)


def _report(store: Store, run: str) -> str:
    """Where the report is; a run that is done stays done when its report cannot be written."""
    from opt_cli.report import write_report

    try:
        return write_report(store, run, None)
    except Exception as fault:  # noqa: BLE001 - whatever the engine or the store may say
        return f"not written: {type(fault).__name__}: {fault}; try `optctl report {run}`"


def _show(result: dict[str, Any], machine: bool) -> None:
    if machine:
        click.echo(json.dumps({"result": result}))
        return
    for name, value in result.items():
        click.echo(f"{name:16} {value}")


def _dataset(data: object, url: str, machine: bool) -> str:
    """URI of the data set's manifest; it is prepared if the spec has sources."""
    from opt_api.training.data import DataSpec
    from opt_cli.dataprep_progress import listener
    from opt_dataprep.errors import DataprepError
    from opt_dataprep.work.driver import prepare

    assert isinstance(data, DataSpec)
    if data.dataset is not None:
        return data.dataset
    try:
        with listener(machine) as told:
            return prepare(data, url, workers=min(data.workers, os.cpu_count() or 1), told=told).uri
    except DataprepError as fault:
        kind = getattr(fault, "kind", type(fault).__name__)
        click.echo(f"{kind}: {fault}", err=True)
        raise SystemExit(BAD_INPUT if kind == "BadInput" else FAILED) from fault
