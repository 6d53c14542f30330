"""`--store`: where a run or a data set is kept, as a URL or as a folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click


def url_of(ctx: click.Context | None, param: click.Parameter | None, value: str | None) -> str | None:
    """A URL as it is; what has no scheme is a folder."""
    return value if value is None or "://" in value else Path(value).absolute().as_uri()


_option = partial(click.option, "--store", metavar="FOLDER|URL", callback=url_of)
of_run = _option(help="Store of the run, a folder or s3://bucket/prefix; ./runs/NAME if not given.")
"""Of a command that reads what a run has stored."""
to_write = _option(help="Where it is written, a folder or s3://bucket/prefix; ./runs/NAME if not given.")
"""Of a command that makes a run or a data set."""
