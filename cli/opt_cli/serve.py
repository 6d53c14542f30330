"""`optctl serve NAME|DIR`: the OpenAI-compatible server, on this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from opt_cli.engine_options import engine_options, told_errors
from opt_cli.exits import BAD_INPUT, FAILED
from opt_cli.process_one import end_on_sigterm

if TYPE_CHECKING:
    from opt_serving.settings import EngineSettings

INSTANCE = "OPT_SERVE_INSTANCE"
"""Variable with the name that a replica in a cluster goes by."""
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("source", metavar="NAME|DIR")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 for all of this machine's addresses.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--model-name", help="Name in the API; the last part of NAME or DIR if not given.")
@click.option("--watch", is_flag=True, help="Follow the run to its newer Verified exports, without a pause.")
@click.option("--api-keys", type=_FILE, help="File with one API key a line; open to all if not given.")
@click.option("--chat-template", type=_FILE, help="Jinja template; chat answers 400 without one.")
@click.option("--files", type=click.Path(file_okay=False, path_type=Path), help="Folder for files of batches.")
@click.option("--max-queue", type=click.IntRange(1, 100_000), default=256, show_default=True)
@click.option("--max-body-bytes", type=click.IntRange(1), default=4_194_304, show_default=True)
@click.option("--max-prompts", type=click.IntRange(1, 10_000), default=128, show_default=True)
@click.option("--deadline", type=click.FloatRange(0.001), default=300, show_default=True, help="Seconds for an answer.")
@click.option("--drain", type=click.FloatRange(0), default=300, show_default=True, help="Seconds after SIGTERM.")
@engine_options
@click.pass_context
def serve(
    ctx: click.Context,
    source: str,
    host: str,
    port: int,
    model_name: str | None,
    watch: bool,
    api_keys: Path | None,
    chat_template: Path | None,
    files: Path | None,
    max_queue: int,
    max_body_bytes: int,
    max_prompts: int,
    deadline: float,
    drain: float,
    store: str | None,
    engine: Callable[[], EngineSettings],
) -> None:
    """Serve the newest Verified export of the run NAME, or a Hugging Face OPT directory (also s3://bucket/prefix).

    A page to try it is at /, the API's description at /docs. SIGTERM drains: open requests end, new ones get 503.
    """
    end_on_sigterm()
    from opt_cli.exported import finder
    from opt_serving.server.running import serve as run
    from opt_serving.settings import Limits, ServerSettings

    settings = ServerSettings(
        model_name or Path(source.rstrip("/")).name or "model",
        engine(),
        Limits(max_queue, max_body_bytes, deadline, max_prompts),
        api_keys,
        chat_template,
        files,
        drain,
        os.environ.get(INSTANCE),
    )
    with told_errors(ctx, source):
        find = finder(source, store)
        click.echo(f"serving {settings.model_name} on http://{host}:{port}", err=True)
        fault = asyncio.run(run(settings, find, host=host, port=port, watch=watch))
    if fault is not None:
        click.echo(f"{source}: {fault}", err=True)
        ctx.exit(BAD_INPUT if fault.startswith("BrokenModel") else FAILED)
