"""Locks between the runs on this machine; the kernel drops the lock of a run that is killed."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optcluster.errors import say


@contextmanager
def one_at_a_time(file: Path, doing: str = "") -> Iterator[None]:
    """Holds the lock `file` inside the block; `doing` is what a run that has to wait is told the other does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if doing:
                say(f"another run is {doing}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
