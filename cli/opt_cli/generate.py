"""`optctl generate NAME|DIR`: continue a prompt with what a run has learned, or with any OPT directory."""

from __future__ import annotations

import sys

import click

from opt_cli.dataprep import FAILED
from opt_cli.plan import BAD_INPUT


@click.command()
@click.argument("source", metavar="NAME|DIR")
@click.option("--prompt", required=True, help="Text to go on from.")
@click.option("--max-tokens", type=click.IntRange(1, 131072), default=64, show_default=True)
@click.option("--temperature", type=click.FloatRange(0, 10), default=0.8, show_default=True, help="0 is greedy.")
@click.option("--top-k", type=click.IntRange(1), default=40, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--store", help="Store of the run; ./runs/NAME if not given.")
@click.pass_context
def generate(
    ctx: click.Context,
    source: str,
    prompt: str,
    max_tokens: int,
    temperature: float,
    top_k: int,
    seed: int,
    store: str | None,
) -> None:
    """Continue a prompt with the newest export of the run NAME, or with a Hugging Face OPT directory."""
    from opt_cli.exported import Speaker, open_export
    from opt_model.decoding import Choice
    from opt_store import StoreError

    try:
        with open_export(source, store) as folder:
            speaker = Speaker(folder)
            click.echo(prompt, nl=False)
            for piece in speaker.continuation(prompt, max_tokens, Choice(temperature, top_k, seed)):
                click.echo(piece, nl=False)
                sys.stdout.flush()
            click.echo()
    except StoreError as fault:
        click.echo(f"{type(fault).__name__}: {fault}", err=True)
        ctx.exit(FAILED)
    except (ValueError, FileNotFoundError) as fault:
        click.echo(f"{source}: {fault}", err=True)
        ctx.exit(BAD_INPUT)
