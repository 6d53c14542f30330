"""Carries out a load: ranged reads in parallel, each chunk checked before a byte of it is used."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import torch

from opt_api.documents.manifests import TensorEntry
from opt_store import NotFound, digest_of
from opt_trainer.checkpoint.boxes import Box
from opt_trainer.checkpoint.contents import Contents
from opt_trainer.checkpoint.errors import BadCheckpoint
from opt_trainer.checkpoint.reads import Fetch, Read, check_fits, plan_fetches, wanted_by
from opt_trainer.state import LocalTensor

Progress = Callable[[int, int], None]
"""Called with (bytes fetched, bytes in all), from any thread."""
_TRIES = 2
"""A chunk that is wrong is fetched once more: the fault may lie in the way and not in the store."""


def fill(
    contents: Contents,
    tensors: Sequence[LocalTensor],
    *,
    entries: Mapping[str, TensorEntry] | None = None,
    parallel: int = 4,
    progress: Progress | None = None,
) -> int:
    """Fill the tensors in place; return the bytes fetched. On an error some of them are filled, some not.

    Memory in use is about `parallel` x 64 MiB.

    Args:
        contents: Of the checkpoint.
        tensors: To fill.
        entries: What `contents.entries` gave for these tensors, or for all; asked for here if absent.
        parallel: Fetches in flight.
        progress: Told of bytes fetched.

    Raises:
        WrongCheckpoint: It is of another model.
        BadCheckpoint: Bytes are missing or not what they were.
        opt_store.StoreError: The store does not answer.
    """
    check_fits(contents.manifest.tensors, tensors)
    known = contents.entries(wanted_by(tensors)) if entries is None else entries
    fetches = plan_fetches(known, tensors, contents.manifest.chunk_bytes)
    _check_covered(fetches, tensors)
    total, done, lock = sum(f.end - f.start for f in fetches), 0, Lock()

    def one(fetch: Fetch) -> None:
        nonlocal done
        _fetch(contents, fetch)
        with lock:
            done += fetch.end - fetch.start
            if progress:
                progress(done, total)

    with ThreadPoolExecutor(parallel, thread_name_prefix="checkpoint-load") as pool:
        touched = sorted({f.object for f in fetches})
        jobs = [pool.submit(contents.check, number) for number in touched]
        jobs += [pool.submit(one, fetch) for fetch in fetches]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return total


def _fetch(contents: Contents, fetch: Fetch) -> None:
    key = contents.key(fetch.object)
    buffer = bytearray(fetch.end - fetch.start)
    for left in reversed(range(_TRIES)):
        try:
            contents.store.read_into(key, fetch.start, buffer)
            _verify(key, fetch, buffer, contents.manifest.chunk_bytes)
            break
        except (NotFound, ValueError) as problem:
            raise BadCheckpoint(f"object {key!r}: {problem}") from problem
        except BadCheckpoint:
            if not left:
                raise
    for read in fetch.reads:
        _place(read, buffer, read.start - fetch.start)


def _verify(key: str, fetch: Fetch, buffer: bytearray, chunk: int) -> None:
    view, checked = memoryview(buffer), -1
    for read in fetch.reads:
        for number, wanted in enumerate(read.digests):
            a = read.start + number * chunk
            b = min(a + chunk, read.end)
            if b <= checked:
                continue  # rows that share a chunk
            found = digest_of(view[a - fetch.start : b - fetch.start])
            if found != wanted:
                raise BadCheckpoint(
                    f"object {key!r}, tensor {read.target.name!r}, bytes {a} to {b}: digest is {found}, the manifest "
                    f"says {wanted}"
                )
            checked = b


def _place(read: Read, buffer: bytearray, at: int) -> None:
    target = read.target.tensor
    rows = torch.frombuffer(buffer, dtype=target.dtype, count=read.rows.size, offset=at + read.skip)
    part = rows.view(read.rows.shape)[read.wanted.within(read.rows)]
    with torch.no_grad():
        target[read.wanted.within(Box(read.target.offset, tuple(target.shape)))].copy_(part)


def _check_covered(fetches: Sequence[Fetch], tensors: Sequence[LocalTensor]) -> None:
    held: dict[str, int] = {}
    for fetch in fetches:
        for read in fetch.reads:
            held[read.target.name] = held.get(read.target.name, 0) + read.wanted.size
    for t in tensors:
        if held.get(t.name, 0) != math.prod(t.tensor.shape):
            raise BadCheckpoint(
                f"tensor {t.name!r}: slices hold {held.get(t.name, 0)} of the {t.tensor.numel()} elements needed here"
            )
