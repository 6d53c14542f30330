"""What the folder store does with files: durable writes, the lock that orders commits, faults by name."""

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from opt_store.digest import finish, hasher
from opt_store.errors import AccessDenied, BadKey, NotFound, StoreError, StoreFull, Unavailable
from opt_store.interface import Progress

_STALE_S = 24 * 3600.0
"""Temporary files that nobody has touched for so long were left by a killed process."""

_FAULTS: dict[int, tuple[type[StoreError], str]] = {
    errno.ENOENT: (NotFound, "there is no such object"),
    errno.ENOTDIR: (BadKey, "another object stands where this key needs a folder; choose another key"),
    errno.EEXIST: (BadKey, "another object stands where this key needs a folder; choose another key"),
    errno.EISDIR: (BadKey, "other objects lie under this key, so it cannot be one itself; choose another key"),
    errno.ENAMETOOLONG: (BadKey, "the file system does not allow so long a name; choose a shorter key"),
    errno.EACCES: (AccessDenied, "file permissions forbid it; let this user read and write the folder"),
    errno.EPERM: (AccessDenied, "the system forbids it; let this user read and write the folder"),
    errno.EROFS: (AccessDenied, "the file system is read-only; mount it writable"),
    errno.ENOSPC: (StoreFull, "no space is left on the file system; free some or use a larger one"),
    errno.EDQUOT: (StoreFull, "the disk quota is used up; free some or have it raised"),
    errno.EFBIG: (StoreFull, "the file system does not allow so large a file"),
}


_MISSING = dict.fromkeys((errno.EISDIR, errno.ENOTDIR), _FAULTS[errno.ENOENT])


@contextmanager
def faults_of(key: str, root: Path, *, reading: bool = False) -> Iterator[None]:
    """Turn an OSError into the store's error of the same cause."""
    table = _FAULTS | _MISSING if reading else _FAULTS
    try:
        yield
    except OSError as fault:
        kind, advice = table.get(fault.errno or 0, (Unavailable, f"{os.strerror(fault.errno or 0)}; try again"))
        raise kind(f"object {key!r} in folder {root}: {advice}") from fault


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold the folder's lock, so that a condition is judged and acted on in one step."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def temporary(folder: Path) -> Iterator[Path]:
    """Give a fresh path in `folder`; what is still there at the end is removed."""
    path = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
    try:
        yield path
    finally:
        with suppress(FileNotFoundError):
            path.unlink()


def sweep(folder: Path) -> None:
    """Remove temporary files that a killed process left behind."""
    limit = time.time() - _STALE_S
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < limit:
                path.unlink()


def write_durably(path: Path, blocks: Iterable[memoryview], total: int = 0, progress: Progress | None = None) -> str:
    """Write `blocks` to a new file, through to the disk, and return its digest.

    The file's time is set from the clock, because the kernel's own has only the resolution of its tick.
    """
    running, done = hasher(), 0
    with path.open("xb", buffering=0) as file:
        for block in blocks:
            running.update(block)
            _write_all(file.fileno(), block)
            done += block.nbytes
            if progress:
                progress(done, total)
        now = time.time_ns()
        os.utime(file.fileno(), ns=(now, now))
        os.fsync(file.fileno())
    return finish(running)


def _write_all(descriptor: int, block: memoryview) -> None:
    while block.nbytes:
        block = block[os.write(descriptor, block) :]


def sync_folder(path: Path) -> None:
    """Make a rename in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
