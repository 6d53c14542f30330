"""Parts, and many of them at once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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


def in_order(tasks: Iterable[Callable[[], T]], at_once: int) -> Iterator[T]:
    """Run tasks in threads and yield their results in order; the first fault stops what has not begun.

    A single task runs in this thread. At most one more than `at_once` tasks are begun or wait to be taken.
    """
    waiting = deque(tasks)
    if len(waiting) < 2:
        yield from (task() for task in waiting)
        return
    begun: deque[Future[T]] = deque()
    with ThreadPoolExecutor(at_once, thread_name_prefix="opt-store") as pool:
        try:
            while begun or waiting:
                while waiting and len(begun) <= at_once:  # one more than run, so that none waits for this thread
                    begun.append(pool.submit(waiting.popleft()))
                yield begun.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


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
