"""`--store`: where a run or a data set is kept, as a URL or as a folder."""

from __future__ import annotations

from pathlib import Path

import click


class StoreUrl(click.ParamType[str]):
    """A URL as it is; what has no scheme is a folder."""

    name = "folder or URL"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The URL."""
        return value if "://" in value else Path(value).absolute().as_uri()


of_run = click.option(
    "--store", type=StoreUrl(), help="Store of the run, a folder or s3://bucket/prefix; ./runs/NAME if not given."
)
"""Of a command that reads what a run has stored."""
to_write = click.option(
    "--store", type=StoreUrl(), help="Where it is written, a folder or s3://bucket/prefix; ./runs/NAME if not given."
)
"""Of a command that makes a run or a data set."""
