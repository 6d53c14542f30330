"""Many tasks at once, their results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


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
