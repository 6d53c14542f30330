"""Where a batch comes from and where its answers go: a file, a pipe, or an object of a store."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from opt_cli.files import STDIN
from opt_store import SCHEMES, Store, StoreError, open_object


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
        opt_store.StoreError: The object cannot be: said before the block where it is known then, and after it with the
            name of a file that has all answers.
    """
    if place is None:
        yield sys.stdout
    elif place.startswith(SCHEMES):
        with _for_a_store(*_object(place)) as file:
            yield file
    else:
        with Path(place).open("w") as file:
            yield file


@contextmanager
def _for_a_store(store: Store, key: str) -> Iterator[IO[str]]:
    store.check_access()
    folder = Path(tempfile.mkdtemp(prefix="opt-answers-"))
    path = folder / Path(key).name
    try:
        with path.open("w") as file:
            yield file
    except BaseException:
        shutil.rmtree(folder)
        raise
    try:
        store.upload(key, path)
    except StoreError as fault:
        raise StoreError(f"{fault}; all answers are in {path}") from fault
    shutil.rmtree(folder)


def _object(place: str) -> tuple[Store, str]:
    if place.endswith("/") or place.count("/") < 3:
        raise ValueError(f"found {place!r}; allowed is the address of an object, such as s3://bucket/requests.jsonl")
    return open_object(place)
