"""`optctl pause NAME`: have a run save, stop and wait."""

from __future__ import annotations

import click

from opt_cli.exits import FAILED


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--reason", default="", help="Why; it goes into the journal.")
@click.pass_context
def pause(ctx: click.Context, name: str, reason: str) -> None:
    """Have the local run NAME save and stop; its hosts stay. `optctl resume` goes on."""
    from opt_cli.control import NotRunning, tell

    try:
        tell(name, "/suspend", {"reason": reason})
    except NotRunning as fault:
        click.echo(str(fault), err=True)
        ctx.exit(FAILED)
    click.echo(f"{name}: saves and stops")
