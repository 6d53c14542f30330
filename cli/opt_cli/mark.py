"""`optctl mark NAME STEP MARK`: say of a checkpoint what only a person knows."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from opt_cli.exits import BAD_INPUT, FAILED
from opt_cli.store_option import of_run

if TYPE_CHECKING:
    from opt_store import Store
    from opt_trainer.checkpoint.marks import Mark

MARKS: dict[str, Mark] = {"pinned": "Pinned", "known-good": "KnownGood", "poisoned": "Poisoned"}


@click.command()
@click.argument("name", metavar="NAME")
@click.argument("step", metavar="STEP", type=click.IntRange(1))
@click.argument("mark", metavar="MARK", type=click.Choice(list(MARKS)))
@click.option("--remove", is_flag=True, help="Take the mark away.")
@click.option("--reason", default="", help="Why; it is kept in the mark.")
@of_run
@click.pass_context
def mark(ctx: click.Context, name: str, step: int, mark: str, remove: bool, reason: str, store: str | None) -> None:
    """Mark the newest checkpoint of STEP of the run NAME: pinned, known-good or poisoned.

    Retention deletes no checkpoint that is pinned or known-good; a poisoned one is never loaded. A run that is going on
    takes it into account with its next save or load.
    """
    from opt_cli.stored import stored_run
    from opt_cli.stored_checkpoints import NoSuchCheckpoint
    from opt_store import StoreError

    try:
        prefix = set_mark(stored_run(name, store), name, step, MARKS[mark], remove=remove, reason=reason)
    except NoSuchCheckpoint as problem:
        click.echo(str(problem), err=True)
        ctx.exit(BAD_INPUT)
    except StoreError as fault:
        click.echo(f"{type(fault).__name__}: {fault}", err=True)
        ctx.exit(FAILED)
    click.echo(f"{prefix}: {'no longer ' if remove else ''}{mark}")


def set_mark(store: Store, run: str, step: int, name: Mark, *, remove: bool = False, reason: str = "") -> str:
    """Write or remove a mark of the newest complete checkpoint of a step; returns its prefix.

    Raises:
        NoSuchCheckpoint: The step has none.
        opt_store.StoreError: The store does not answer.
    """
    from opt_api.documents.keys import manifest_key, mark_key
    from opt_cli.stored_checkpoints import NoSuchCheckpoint, listing_of
    from opt_store import digest_of
    from opt_trainer.checkpoint.catalog import catalog
    from opt_trainer.checkpoint.marks import mark as write

    found = catalog(store, run)
    chosen = next((f for f in found if f.step == step and f.complete), None)
    if chosen is None:
        raise NoSuchCheckpoint(f"run {run!r}: found no checkpoint of step {step}; it has: {listing_of(found)}")
    if remove:
        store.delete(mark_key(chosen.prefix, name))
    else:
        digest = digest_of(store.get(manifest_key(chosen.prefix)))
        write(store, chosen.prefix, name, digest, by=getpass.getuser(), now=datetime.now(UTC), reason=reason)
    return chosen.prefix
