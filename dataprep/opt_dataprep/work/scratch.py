"""Room on the worker's disk that vanishes with the worker, however it dies."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from opt_dataprep.errors import NoScratch


@contextmanager
def anonymous_file() -> Iterator[tuple[IO[bytes], Path]]:
    """Give an open file without a name, and a path by which this process can open it anew.

    Raises:
        NoScratch: The disk does not take what is written.
    """
    try:
        with tempfile.TemporaryFile("w+b") as file:
            yield file, Path(f"/proc/self/fd/{file.fileno()}")
    except OSError as fault:
        raise NoScratch(
            f"scratch folder {tempfile.gettempdir()}: {fault}; give the worker more disk or name a folder in TMPDIR"
        ) from fault
