"""`optctl resume NAME`: go on with a paused run."""

from __future__ import annotations

import click

from opt_cli.exits import FAILED


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--reason", default="", help="What was done about the pause; it goes into the journal.")
@click.pass_context
def resume(ctx: click.Context, name: str, reason: str) -> None:
    """Go on with the local run NAME, whatever it was paused for."""
    from opt_cli.control import NotRunning, tell

    try:
        tell(name, "/resume", {"reason": reason})
    except NotRunning as fault:
        click.echo(str(fault), err=True)
        ctx.exit(FAILED)
    click.echo(f"{name}: goes on")
