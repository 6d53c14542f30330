"""Options that every command with an engine has, and the errors that end it."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from opt_cli.exits import BAD_INPUT, FAILED
from opt_cli.store_option import of_run
from opt_serving.settings import EngineSettings

_DEFAULT = EngineSettings()
_OPTIONS = (
    of_run,
    click.option("--weights", type=click.Choice(["float32", "bfloat16", "float16", "int8"]), default=_DEFAULT.weights,
                 show_default=True, help="Number format of the matrices."),
    click.option("--device", default=_DEFAULT.device, show_default=True, help="cpu, cuda or cuda:N."),
    click.option("--threads", type=click.IntRange(1, 1024), help="Threads that compute; all cores if not given."),
    click.option("--tensor-parallel", type=click.IntRange(1, 64), default=_DEFAULT.tensor_parallel, show_default=True,
                 help="Processes (on accelerators, devices too) that each hold a share of every matrix."),
    click.option("--max-sequences", type=click.IntRange(1, 4096), default=_DEFAULT.max_sequences, show_default=True,
                 help="Sequences decoded together."),
    click.option("--max-length", "max_sequence_length", type=click.IntRange(1, 131072),
                 help="Tokens of a sequence; the model's positions."),
    click.option("--kv-cache-bytes", type=click.IntRange(1), help="Room for keys and values."),
    click.option("--kv-cache-pretouch", is_flag=True,
                 help="Take memory for the whole cache while there is nothing to do, not as it comes to be used."),
    click.option("--prefill-chunk", "prefill_chunk_tokens", type=click.IntRange(16, 65536),
                 default=_DEFAULT.prefill_chunk_tokens, show_default=True,
                 help="Tokens of prompts in one pass, at most."),
    click.option("--prefill-chunk-seconds", type=click.FloatRange(0, 3600, min_open=True),
                 default=_DEFAULT.prefill_chunk_seconds, show_default=True,
                 help="While others decode, no more tokens of prompts than take this long."),
    click.option("--kernels", type=click.Choice(["auto", "yes", "no"]), default=_DEFAULT.kernels, show_default=True,
                 help="Compiled kernels on a cpu."),
)  # fmt: skip


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets `store` and `engine`, a function that makes the settings."""

    @functools.wraps(command)
    def wrapped(**given: Any) -> Any:
        own = {field.name: given.pop(field.name) for field in dataclasses.fields(EngineSettings)}
        return command(**given, engine=functools.partial(_settings, own))

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _settings(given: dict[str, Any]) -> EngineSettings:
    return EngineSettings(**{**given, "threads": given["threads"] or len(os.sched_getaffinity(0))})


@contextmanager
def told_errors(ctx: click.Context, source: str) -> Iterator[None]:
    """Turn what is wrong with the source into a message and an exit code."""
    from opt_store import StoreError

    try:
        yield
    except StoreError as fault:
        click.echo(f"{type(fault).__name__}: {fault}", err=True)
        ctx.exit(FAILED)
    except (ValueError, OSError) as fault:
        click.echo(f"{source}: {fault}", err=True)
        ctx.exit(BAD_INPUT)
