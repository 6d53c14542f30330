"""`optctl audit NAME --step N`: which documents a step of a run trained on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from opt_cli.exits import BAD_INPUT, FAILED
from opt_cli.store_option import of_run

if TYPE_CHECKING:
    from opt_store import Store


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--step", type=click.IntRange(1), required=True, help="Optimiser step, from 1.")
@of_run
@click.option("--dataset", help="URI of the data set's manifest; found by its digest if not given.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def audit(ctx: click.Context, name: str, step: int, store: str | None, dataset: str | None, as_json: bool) -> None:
    """Print the documents in the batch of one step of the run NAME: source, object, place in it, place in the batch.

    The order is a function of the seed and the step alone, so the answer holds for any number of workers, and for steps
    that are still to come. Only the shards that hold the batch are fetched.
    """
    from opt_cli.stored import stored_run
    from opt_store import StoreError
    from opt_trainer.data.dataset import BadData

    try:
        found = audit_of(stored_run(name, store), name, step, dataset=dataset)
    except ValueError as problem:
        click.echo(str(problem), err=True)
        ctx.exit(BAD_INPUT)
    except (StoreError, BadData) as fault:
        click.echo(f"{type(fault).__name__}: {fault}", err=True)
        ctx.exit(FAILED)
    if as_json:
        click.echo(json.dumps(found))
        return
    words = "left out: it is in the skip list" if found["skipped"] else f"{len(found['documents'])} documents"
    click.echo(f"step {step} of {name}: {words}")
    for d in found["documents"]:
        click.echo(
            f"row {d['row']:>5}  block {d['block']:>9}  token {d['start']:>5}  {d['source']}  {d['uri']} "
            f"at {d['position']}, {d['length']} long" + (f", {d['skipped']} tokens before" if d["skipped"] else "")
        )


def audit_of(store: Store, run: str, step: int, *, dataset: str | None = None) -> dict[str, Any]:
    """What one step of a run saw.

    Raises:
        ValueError: The run has no such step.
        BadData, opt_store.StoreError: The data set cannot be read.
    """
    from opt_cli.stored_checkpoints import dataset_of, newest_manifest, plan_of
    from opt_trainer.data.audit import documents_of_step, order_of
    from opt_trainer.data.dataset import open_dataset

    plan, newest = plan_of(store, run), newest_manifest(store, run)
    if step > plan.recipe.total_steps:
        raise ValueError(f"run {run!r}: found --step {step}, the run has steps 1 to {plan.recipe.total_steps}")
    if newest is not None and newest.running is not None:
        plan = plan.model_copy(update={"skip_batches": newest.running.skip_batches})
    place = dataset_of(store, run, newest, dataset)
    with TemporaryDirectory(prefix="opt-audit-") as folder:
        opened = open_dataset(place.store, place.key, Path(folder), plan)
        order = order_of(plan, opened)
        documents = [asdict(d) for d in documents_of_step(opened, order, step)]
    return {"run": run, "step": step, "skipped": order.skipped(step), "documents": documents}
