"""`optctl checkpoints NAME`: which checkpoints a run has, and whether they are whole."""

from __future__ import annotations

import json
from typing import Any

import click

from opt_cli.exits import FAILED
from opt_cli.store_option import of_run


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--verify", is_flag=True, help="Read every byte of each and check its digest.")
@of_run
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: the list of checkpoints.")
@click.pass_context
def checkpoints(ctx: click.Context, name: str, verify: bool, store: str | None, as_json: bool) -> None:
    """List the checkpoints of the run NAME, newest first, with their states.

    Uploading: no manifest yet, or what a killed save left. Complete: the manifest is there. Verified: every object was
    read back before. Poisoned: never loaded. With --verify the exit code is 1 if one that is not Poisoned is damaged.
    """
    from opt_cli.stored import stored_run
    from opt_cli.stored_checkpoints import checkpoints_of
    from opt_store import StoreError

    found: list[dict[str, Any]] = []
    try:
        for one in checkpoints_of(stored_run(name, store), name, verify=verify):
            found.append(one)
            if not as_json:
                click.echo("\n".join(lines_of(one)))
    except StoreError as fault:
        click.echo(f"{type(fault).__name__}: {fault}", err=True)
        ctx.exit(FAILED)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not found:
        click.echo(f"{name}: no checkpoints yet")
    if any(_is_damaged(one) for one in found):
        ctx.exit(FAILED)


def lines_of(one: dict[str, Any]) -> list[str]:
    """A checkpoint for people: one line, and one for each problem."""
    loss = "" if one.get("loss") is None else f"  loss {one['loss']:.4f}"
    marks = "".join(f"  {mark}" for mark in one["marks"])
    whole = "  whole" if one.get("problems") == [] else ""
    head = f"step {one['step']:>8}  attempt {one['attempt']}  {one['state']:<9}  {one['bytes'] / 1e6:,.1f} MB"
    problems = [*one.get("problems", ()), *([one["problem"]] if "problem" in one else ())]
    return [f"{head}{loss}{marks}{whole}", *(f"      {text}" for text in dict.fromkeys(problems))]


def _is_damaged(one: dict[str, Any]) -> bool:
    return one["state"] != "Poisoned" and bool(one.get("problems"))
