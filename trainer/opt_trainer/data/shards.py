"""Arrow shards on local disk: fetched from the store once per host, checked against the manifest, memory-mapped."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from opt_api.documents.manifests import ObjectEntry, ShardEntry
from opt_store import Corrupt, Store, digest_of_file
from opt_trainer.errors import BadHost, BadSpec

Progress = Callable[[int, int], None]
"""Called with (bytes there, bytes in all), from any thread."""

ROOM_SHARE = 0.9
"""Of the disk that a host may fill, what shards may take; records, logs and sockets need the rest."""
TOKENS = "tokens"
"""Column of a shard: FixedSizeList<uint16>[tokens per block], without nulls."""
DOCUMENTS = "documents"
"""Column of a shard: which documents each block holds, and where."""


class ShardCache:
    """Shards of one data set in a local folder that ranks of a host share.

    A file is named by its digest, appears only when it was checked, and is checked again when it is opened unless
    nothing about the file changed since the last check.

    Attributes:
        room: Bytes that shards may take in the folder; None for what the disk has.
    """

    def __init__(self, store: Store, prefix: str, folder: Path, parallel: int = 4, *, room: int | None = None) -> None:
        self._store, self._prefix, self._folder, self._parallel = store, prefix, folder, parallel
        self.room = room
        self._coming: dict[str, int] = {}
        self._counting = Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, shard: ShardEntry, progress: Progress | None = None) -> Path:
        """Return the local file of a shard, fetching it when it is not there or not what it should be.

        Raises:
            opt_store.StoreError: It cannot be had; `Corrupt` if the store's own copy has another digest.
            BadHost: This host's disk has no room for it.
            BadSpec: It would take more than hosts may have.
        """
        path = self._folder / f"{shard.digest.partition(':')[2]}.arrow"
        with _locked(path.with_suffix(".lock")):
            if path.exists() and not _is_sound(path, shard):
                path.unlink()
            if not path.exists():
                with self._held_room(path.stem, shard):
                    self._store.download(f"{self._prefix}{shard.key}", path, expect=shard.digest, progress=progress)
                _note_check(path)
        return path

    def side_file(self, entry: ObjectEntry, name: str) -> Path:
        """Fetch another object of the data set, such as its vocabulary, under a name of one's own; return its path.

        Raises:
            opt_store.StoreError: It cannot be had, or has another digest.
        """
        path = self._folder / name
        with _locked(path.with_suffix(".lock")):
            if not (path.exists() and digest_of_file(path) == entry.digest):
                self._store.download(f"{self._prefix}{entry.key}", path, expect=entry.digest)
        return path

    def fetch(self, shards: Sequence[ShardEntry], progress: Progress | None = None) -> None:
        """Fetch shards in parallel; what is there already counts as done. Raises as `path`."""
        total, lock = sum(s.size for s in shards), Lock()
        there = dict.fromkeys((s.digest for s in shards), 0)

        def one(shard: ShardEntry) -> None:
            def note(done: int, _: int) -> None:
                with lock:
                    there[shard.digest] = done
                    if progress:
                        progress(sum(there.values()), total)

            self.path(shard, note)
            note(shard.size, shard.size)

        with ThreadPoolExecutor(self._parallel, thread_name_prefix="shards") as pool:
            for _ in pool.map(one, shards):
                pass

    @contextmanager
    def _held_room(self, name: str, shard: ShardEntry) -> Iterator[None]:
        """Room for a shard that is fetched meanwhile, so that several at once do not take the same."""
        with self._counting:
            self._check_disk(shard)
            self._check_room(shard)
            self._coming[name] = shard.size
        try:
            yield
        finally:
            with self._counting:
                del self._coming[name]

    def _check_disk(self, shard: ShardEntry) -> None:
        free = shutil.disk_usage(self._folder).free
        if shard.size > free:
            raise BadHost(
                f"shard {shard.key!r}: it has {shard.size} bytes, the disk of {self._folder} has {free} free; free "
                "some, give the work folder a larger disk, or use another host"
            )

    def _check_room(self, shard: ShardEntry) -> None:
        if self.room is None:
            return
        taken = sum((self._there() | self._coming).values()) + shard.size
        if taken > self.room:
            raise BadSpec(
                f"shard {shard.key!r}: with it shards take {taken} bytes, a host has {self.room} for them, "
                f"which is {ROOM_SHARE:.0%} of its disk; raise pods.resources.ephemeralStorage"
            )

    def _there(self) -> dict[str, int]:
        """Sizes of the files that are here; another rank may take an unsound one away meanwhile."""
        found = {}
        for path in self._folder.glob("*.arrow"):
            with suppress(FileNotFoundError):
                found[path.stem] = path.stat().st_size
        return found


class Blocks:
    """Blocks of one split by index, read in place from memory-mapped shards, opened on first use."""

    def __init__(self, cache: ShardCache, shards: Sequence[ShardEntry], tokens_per_block: int) -> None:
        self._cache, self._width = cache, tokens_per_block
        self._shards = sorted(shards, key=lambda s: s.first_block)
        self._starts = np.array([s.first_block for s in self._shards], dtype=np.int64)
        self._open: dict[int, MappedShard] = {}

    def __len__(self) -> int:
        return sum(s.blocks for s in self._shards)

    def locate(self, block: int) -> tuple[ShardEntry, int]:
        """Shard that holds a block, and the block's row in it."""
        index = int(np.searchsorted(self._starts, block, side="right")) - 1
        shard = self._shards[index] if index >= 0 else None
        if shard is None or block - shard.first_block >= shard.blocks:
            raise IndexError(f"block {block}: the split has blocks 0 to {len(self) - 1}")
        return shard, block - shard.first_block

    def documents(self, block: int) -> list[dict[str, int]]:
        """Documents that a block holds, in order.

        Each with `object` (index into the manifest's sources), `position` and `length` there, the first token `start`
        that is its own, and how many of its tokens came before the block (`skipped`).
        """
        shard, row = self.locate(block)
        return self._rows(shard).documents(row)

    def fetch(self, blocks: Sequence[int], progress: Progress | None = None) -> None:
        """Fetch the shards of the blocks, in parallel, as far as they are not open yet. Raises as `ShardCache.path`."""
        shards = {s.first_block: s for s, _ in map(self.locate, blocks) if s.first_block not in self._open}
        if shards:
            self._cache.fetch([shards[first] for first in sorted(shards)], progress)

    def read(self, blocks: Sequence[int]) -> npt.NDArray[np.int64]:
        """Tokens of the blocks, of shape (len(blocks), tokens per block)."""
        self.fetch(blocks)
        out = np.empty((len(blocks), self._width), dtype=np.int64)
        for row, block in enumerate(blocks):
            shard, at = self.locate(block)
            out[row] = self._rows(shard)[at]
        return out

    def _rows(self, shard: ShardEntry) -> MappedShard:
        if shard.first_block not in self._open:
            self._open[shard.first_block] = MappedShard(self._cache.path(shard), shard, self._width)
        return self._open[shard.first_block]


class MappedShard:
    """Rows of one shard file, each a view (width,) of uint16 into the mapped file.

    Raises:
        Corrupt: The file is not what the manifest says, though its digest is.
    """

    def __init__(self, path: Path, shard: ShardEntry, width: int) -> None:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        column = table.column(TOKENS)
        kind, found = column.type, len(column)
        shaped = pa.types.is_fixed_size_list(kind) and kind.list_size == width and kind.value_type.equals(pa.uint16())
        if not shaped or found != shard.blocks or column.null_count:
            raise Corrupt(
                f"shard {shard.key!r}, column {TOKENS!r}: found {found} rows of {kind} with {column.null_count} nulls, "
                f"the manifest says {shard.blocks} rows of fixed_size_list<uint16>[{width}]; prepare it again"
            )
        self._documents = table.column(DOCUMENTS)
        values = [cast("Any", chunk).flatten().to_numpy() for chunk in column.chunks]
        self._batches: list[npt.NDArray[np.uint16]] = [v.reshape(-1, width) for v in values]
        self._ends = np.cumsum([len(b) for b in self._batches])

    def documents(self, row: int) -> list[dict[str, int]]:
        """Documents of a row, in order."""
        return cast("list[dict[str, int]]", self._documents[row].as_py())

    def __getitem__(self, row: int) -> npt.NDArray[np.uint16]:
        batch = int(np.searchsorted(self._ends, row, side="right"))
        found: npt.NDArray[np.uint16] = self._batches[batch][row - int(self._ends[batch])]  # counted from the end
        return found


def _is_sound(path: Path, shard: ShardEntry) -> bool:
    if path.stat().st_size != shard.size:
        return False
    try:
        if path.with_suffix(".checked").read_text() == _print_of(path):
            return True
    except FileNotFoundError:
        pass
    if digest_of_file(path) != shard.digest:
        return False
    _note_check(path)
    return True


def _note_check(path: Path) -> None:
    path.with_suffix(".checked").write_text(_print_of(path))


def _print_of(path: Path) -> str:
    found = path.stat()
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
