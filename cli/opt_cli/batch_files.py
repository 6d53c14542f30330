"""Where a batch comes from and where its answers go: a file, a pipe, or an object of a store."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from opt_cli.files import STDIN
from opt_store import SCHEMES, Store, open_object


def read(place: str) -> bytes:
    """The whole of a batch; `-` is standard input.

    Raises:
        OSError: There is no such file.
        opt_store.StoreError: There is no such object, or no store.
    """
    if place.startswith(SCHEMES):
        store, key = _object(place)
        return store.get(key)
    return sys.stdin.buffer.read() if place == STDIN else Path(place).read_bytes()


@contextmanager
def writing(place: str | None) -> Iterator[IO[str]]:
    """Where answers are written line by line; an object appears when all are there, and not where the block failed.

    Raises:
        OSError: The file cannot be written.
        opt_store.StoreError: The object cannot be.
    """
    if place is None:
        yield sys.stdout
    elif place.startswith(SCHEMES):
        store, key = _object(place)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "answers"
            with path.open("w") as file:
                yield file
            store.upload(key, path)
    else:
        with Path(place).open("w") as file:
            yield file


def _object(place: str) -> tuple[Store, str]:
    if place.endswith("/") or place.count("/") < 3:
        raise ValueError(f"found {place!r}; allowed is the address of an object, such as s3://bucket/requests.jsonl")
    return open_object(place)
