"""`optctl logbook NAME`: what happened to a run, entry by entry."""

from __future__ import annotations

import json

import click

from opt_api.documents.logbook import LogbookEntry
from opt_cli.exits import FAILED
from opt_cli.store_option import of_run


@click.command()
@click.argument("name", metavar="NAME")
@of_run
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: the list of entries.")
@click.pass_context
def logbook(ctx: click.Context, name: str, store: str | None, as_json: bool) -> None:
    """Print the logbook of the run NAME: causes, evidence, hosts, steps lost, seconds per phase, changes."""
    from opt_cli.stored import stored_run
    from opt_runtime.records.logbook import Logbook
    from opt_store import StoreError

    try:
        entries = Logbook(stored_run(name, store), name).read()
    except StoreError as fault:
        click.echo(f"{type(fault).__name__}: {fault}", err=True)
        ctx.exit(FAILED)
    if as_json:
        click.echo(json.dumps([entry.wire() for entry in entries], indent=2))
        return
    for entry in entries:
        click.echo("\n".join(lines_of(entry)))


def lines_of(entry: LogbookEntry) -> list[str]:
    """An entry for people: one line, and indented ones for what there is more."""
    rung = f"  rung {entry.rung}" if entry.rung else ""
    lost = f"  {entry.steps_lost} step(s) redone" if entry.steps_lost else ""
    seconds = ", ".join(f"{name} {value:.2f}" for name, value in entry.seconds.items())
    more = [
        *(line for evidence in entry.evidence for line in evidence.splitlines()[:12]),
        *(f"{change.field}: {change.before} -> {change.after}" for change in entry.changes),
        *([f"seconds: {seconds}"] if seconds else []),
        *([f"{entry.who}: {entry.reason}"] if entry.reason else []),
    ]
    head = f"{entry.sequence:4d}  {entry.time:%Y-%m-%d %H:%M:%S}  attempt {entry.attempt}  {entry.cause}{rung}{lost}"
    return [f"{head}  {entry.summary}", *(f"      {line}" for line in more)]
