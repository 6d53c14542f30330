"""Parts, and many of them at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Lock
from typing import TypeVar

from opt_store.interface import Progress

T = TypeVar("T")
MAX_PARTS = 10_000
"""Amazon S3 User Guide, "multipart upload limits"."""
_MIB = 1 << 20


def part_size(size: int, wanted: int) -> int:
    """Return the bytes of a part: `wanted`, or more where the object would have too many."""
    least = -(-size // MAX_PARTS)
    return max(wanted, -(-least // _MIB) * _MIB)


def ranges(offset: int, length: int, part_bytes: int) -> list[tuple[int, int]]:
    """Cut bytes into (offset, length) of at most `part_bytes` each."""
    end = offset + length
    return [(start, min(part_bytes, end - start)) for start in range(offset, end, part_bytes)]


def all_of(tasks: Iterable[Callable[[], T]], at_once: int) -> list[T]:
    """Run tasks in threads and return their results in order; the first fault stops what has not begun."""
    with ThreadPoolExecutor(at_once, thread_name_prefix="opt-store") as pool:
        futures = [pool.submit(task) for task in tasks]
        done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        if waiting:
            pool.shutdown(wait=True, cancel_futures=True)
        for future in done:
            if not future.cancelled() and (fault := future.exception()) is not None:
                raise fault
        return [future.result() for future in futures]


class Tally:
    """Adds up bytes from many threads for one progress call-back."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress, self._done, self._lock = total, progress, 0, Lock()

    def add(self, count: int) -> None:
        """Report `count` more bytes."""
        with self._lock:
            self._done += count
            if self._progress:
                self._progress(self._done, self._total)
