"""How much of an object has come or gone."""

from threading import Lock

from opt_store.interface import Progress


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
