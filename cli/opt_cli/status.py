"""`optctl status NAME`: a local run now, or as it was left."""

from __future__ import annotations

import json
from typing import Any

import click

from opt_cli.exits import FAILED
from opt_cli.store_option import of_run


@click.command()
@click.argument("name", metavar="NAME")
@of_run
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def status(ctx: click.Context, name: str, store: str | None, as_json: bool) -> None:
    """Print attempt, step and loss of the run NAME, and for every worker and agent rank, host and pid."""
    from opt_store import StoreError

    try:
        found = status_of(name, store)
    except StoreError as fault:
        click.echo(f"{type(fault).__name__}: {fault}", err=True)
        ctx.exit(FAILED)
    if as_json:
        click.echo(json.dumps(found))
        return
    for key, value in found.items():
        rows = value if isinstance(value, list) and value and isinstance(value[0], dict) else None
        if rows is None:
            click.echo(f"{key:16} {'-' if value is None else value}")
        for row in rows or []:
            click.echo(f"{key[:-1]:16} " + "  ".join(f"{k}={v}" for k, v in row.items()))


def status_of(name: str, url: str | None) -> dict[str, Any]:
    """The status document of a run: its coordinator's, or what the store tells when none is running.

    Raises:
        opt_store.StoreError: There is no such run.
    """
    from opt_cli.stored import coordinator_of, stored_run
    from opt_runtime.records.kept_state import remembered
    from opt_runtime.wire import Gone

    client = coordinator_of(name)
    if client is not None:
        try:
            found: dict[str, Any] = json.loads(client.ask("GET", "/status"))
        except Gone:
            pass
        else:
            return found
        finally:
            client.close()
    state, _ = remembered(stored_run(name, url), name)
    return {
        "run": name,
        "phase": "stopped" if state.phase == "running" else state.phase,
        "pausedFor": state.paused_for,
        "pausedWords": state.paused_words,
        "attempt": state.attempt,
        "step": state.highest_step,
        "loss": state.loss,
        "workers": [],
        "agents": [],
        "goodput": dict(state.goodput),
    }
