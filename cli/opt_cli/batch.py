"""`optctl batch FILE|URI`: answer a JSONL of requests, without a server; on this machine or as a Job in a cluster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from opt_cli import batch_files
from opt_cli.engine_options import engine_options, told_errors
from opt_cli.exits import FAILED

if TYPE_CHECKING:
    from opt_serving.server.jobs import Served
    from opt_serving.settings import EngineSettings, ServerSettings


@click.command()
@click.argument("file", metavar="FILE|URI")
@click.option("--model", "source", required=True, metavar="NAME|DIR", help="As for `optctl serve`.")
@click.option("--model-name", help="Name that requests may give; the last part of NAME or DIR if not given.")
@click.option("--output", metavar="FILE|URI", help="Standard output if not given.")
@engine_options
@click.pass_context
def batch(
    ctx: click.Context,
    file: str,
    source: str,
    model_name: str | None,
    output: str | None,
    store: str | None,
    engine: Callable[[], EngineSettings],
) -> None:
    """Answer every line of FILE, in the form of OpenAI's batches; - is standard input, a URI an object of a store.

    A line is {"custom_id": ..., "method": "POST", "url": "/v1/completions", "body": {...}}. Exit code 1 when a request
    failed; the others are answered all the same.
    """
    from opt_cli.exported import finder
    from opt_serving.server.batch_lines import read_lines
    from opt_serving.server.running import open_served
    from opt_serving.settings import ServerSettings

    with told_errors(ctx, file):
        data = batch_files.read(file)
        read_lines(data)  # what is wrong with the file is said before a model is loaded
    with told_errors(ctx, source):
        weights = finder(source, store)(None)
        assert weights is not None
        settings = ServerSettings(model_name or Path(source.rstrip("/")).name, engine())
        served = open_served(weights, settings)
        with batch_files.writing(output) as written:
            failed = asyncio.run(answer(data, served, settings, written))
    if failed:
        click.echo(f"{failed} request(s) failed; their lines say why", err=True)
        ctx.exit(FAILED)


async def answer(data: bytes, served: Served, settings: ServerSettings, written: IO[str]) -> int:
    """Write the answers; returns how many requests failed."""
    from opt_serving.server.batch_lines import answer_lines
    from opt_serving.server.batches import Counts
    from opt_serving.server.completions import Completions
    from opt_serving.server.state import State

    state = State(settings)
    state.serve(served)
    counts = Counts()
    try:
        async for line in answer_lines(data, Completions(state), state, counts):
            written.write(json.dumps(line, ensure_ascii=False) + "\n")
            written.flush()
    finally:
        state.close()
    return counts.failed
