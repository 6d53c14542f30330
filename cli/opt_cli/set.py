"""`optctl set NAME FIELD=VALUE`: change a running field of a run at the next common step."""

from __future__ import annotations

import getpass
import json

import click

from opt_cli.exits import BAD_INPUT, FAILED


@click.command(name="set")
@click.argument("name", metavar="NAME")
@click.argument("changes", metavar="FIELD=VALUE...", nargs=-1, required=True)
@click.option("--reason", required=True, help="Why; it goes into the logbook.")
@click.pass_context
def set_(ctx: click.Context, name: str, changes: tuple[str, ...], reason: str) -> None:
    """Change running fields of the local run NAME, such as optimisation.learningRate=1e-4, on all ranks at one step."""
    from opt_cli.control import NotRunning, tell

    fields = {}
    for change in changes:
        field, equals, value = change.partition("=")
        try:
            fields[field] = json.loads(value) if equals else None
        except ValueError:
            equals = ""
        if not equals:
            click.echo(f"{change!r}: expected FIELD=VALUE with a JSON value, such as optimisation.clip=0.3", err=True)
            ctx.exit(BAD_INPUT)
    try:
        answer = tell(name, "/live-change", {"fields": fields, "reason": reason, "who": getpass.getuser()})
    except NotRunning as fault:
        click.echo(str(fault), err=True)
        ctx.exit(FAILED)
    except ValueError as refused:
        click.echo(str(refused), err=True)
        ctx.exit(BAD_INPUT)
    click.echo(f"{name}: change {answer['sequence']} takes effect at step {answer['atStep']}")
