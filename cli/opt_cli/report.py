"""`optctl report NAME`: what a run did and what became of it, as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from opt_cli.exits import FAILED
from opt_cli.store_option import of_run

if TYPE_CHECKING:
    from opt_store import Store

PROMPTS = ("This program is free software; you can", "def __init__(self", "The ")
TOKENS = 48
KEY = "report.html"
"""Name of the page beside the run's other records."""


@click.command()
@click.argument("name", metavar="NAME")
@of_run
@click.option("--output", type=click.Path(dir_okay=False), help="File to write; beside the run in its store if absent.")
@click.option("--prompt", "prompts", multiple=True, help="Text to have continued; may be given several times.")
@click.pass_context
def report(ctx: click.Context, name: str, store: str | None, output: str | None, prompts: tuple[str, ...]) -> None:
    """Write the report of the run NAME: losses, recoveries, goodput, energy and carbon, sample answers."""
    from opt_cli.stored import stored_run
    from opt_store import StoreError

    try:
        where = write_report(stored_run(name, store), name, output, prompts or PROMPTS)
    except StoreError as fault:
        click.echo(f"{type(fault).__name__}: {fault}", err=True)
        ctx.exit(FAILED)
    click.echo(where)


def write_report(store: Store, run: str, output: str | None, prompts: tuple[str, ...] = PROMPTS) -> str:
    """Write the page to a file, or into the store; return where it is.

    Raises:
        opt_store.StoreError: There is no such run, or the store cannot be used.
    """
    from opt_api.documents.keys import run_prefix
    from opt_cli.report_findings import find
    from opt_cli.report_page import page

    data = page(find(store, run, samples_of(store, run, prompts))).encode()
    if output is not None:
        Path(output).write_bytes(data)
        return output
    key = f"{run_prefix(run)}/{KEY}"
    store.put(key, data)
    return f"{store.url}/{key}"


def samples_of(store: Store, run: str, prompts: tuple[str, ...]) -> list[tuple[str, str]]:
    """What the newest export makes of each prompt; nothing while there is no export."""
    from opt_cli.exported import run_finder
    from opt_cli.generate import continuation
    from opt_serving.engine import Sampling
    from opt_serving.server.running import open_served
    from opt_serving.settings import EngineSettings, ServerSettings
    from opt_serving.text.tokenizer import END
    from opt_store import NotFound

    try:
        weights = run_finder(store, run)(None)
    except NotFound:
        return []
    assert weights is not None
    served = open_served(weights, ServerSettings(run, EngineSettings(max_sequences=1)))
    sampling = Sampling(max_tokens=TOKENS, temperature=0.7, top_k=40, seed=0, stop_ids=frozenset({END}))
    try:
        return [(prompt, "".join(continuation(served, prompt, sampling, []))) for prompt in prompts]
    finally:
        served.engine.close()
