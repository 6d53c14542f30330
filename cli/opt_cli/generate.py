"""`optctl generate NAME|DIR`: continue a prompt with what a run has learned, or with any OPT directory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from opt_cli.engine_options import engine_options, told_errors

if TYPE_CHECKING:
    from opt_serving.engine import Sampling
    from opt_serving.server.jobs import Served
    from opt_serving.settings import EngineSettings


@click.command()
@click.argument("source", metavar="NAME|DIR")
@click.option("--prompt", required=True, help="Text to go on from.")
@click.option("--max-tokens", type=click.IntRange(1, 131072), default=64, show_default=True)
@click.option("--temperature", type=click.FloatRange(0, 10), default=0.8, show_default=True, help="0 is greedy.")
@click.option("--top-k", type=click.IntRange(0), default=40, show_default=True, help="0 draws among all tokens.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True)
@click.option("--stop", "stops", multiple=True, help="Text that ends the answer; may be given several times.")
@click.option("--seed", type=int, default=0, show_default=True)
@engine_options
@click.pass_context
def generate(
    ctx: click.Context,
    source: str,
    prompt: str,
    max_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    stops: tuple[str, ...],
    seed: int,
    store: str | None,
    engine: Callable[[], EngineSettings],
) -> None:
    """Continue a prompt with the newest Verified export of the run NAME, or with a Hugging Face OPT directory.

    The same engine as `optctl serve`.
    """
    from opt_cli.exported import finder
    from opt_serving.engine import Sampling
    from opt_serving.server.running import open_served
    from opt_serving.settings import ServerSettings
    from opt_serving.text.tokenizer import END

    sampling = Sampling(
        max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, stop_ids=frozenset({END})
    )
    with told_errors(ctx, source):
        weights = finder(source, store)(None)
        assert weights is not None
        served = open_served(weights, ServerSettings(source, engine()))
        try:
            click.echo(prompt, nl=False)
            for piece in continuation(served, prompt, sampling, list(stops)):
                click.echo(piece, nl=False)
                sys.stdout.flush()
            click.echo()
        finally:
            served.engine.close()


def continuation(served: Served, prompt: str, sampling: Sampling, stops: list[str]) -> Iterator[str]:
    """Text that follows a prompt, piece by piece; ends where the model's positions do.

    Raises:
        ValueError: The model has no tokenizer, or the prompt is too long.
    """
    from dataclasses import replace
    from queue import SimpleQueue

    from opt_serving.engine import Sequence
    from opt_serving.engine.engine import Progress
    from opt_serving.text.stream import TextStream

    if served.tokenizer is None:
        raise ValueError("no tokenizer (vocab.json and merges.txt) beside the model")
    ids = served.tokenizer.encode(prompt)
    room = max(1, served.engine.longest + 1 - len(ids))
    sequence = Sequence(ids, replace(sampling, max_tokens=min(sampling.max_tokens, room)))
    news: SimpleQueue[Progress] = SimpleQueue()
    served.engine.submit(sequence, lambda several: [*map(news.put, several)].clear())
    text = TextStream(stops)
    while not text.stopped:
        progress = news.get()
        if progress.token is not None:
            yield text.take(served.tokenizer.bytes_of(progress.token.id))
        if progress.finish is not None:
            yield text.take(b"", last=True)
            break
    if progress.finish == "error":
        raise ValueError(sequence.error)
