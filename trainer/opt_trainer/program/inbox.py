"""Live changes as files in a folder, one for each, written by whoever watches over the worker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from opt_api.documents.live_change import LiveChange


class NoChanges:
    """A run that nobody watches over."""

    def after(self, sequence: int) -> Sequence[LiveChange]:
        """See `ChangeSource`."""
        return ()


class ChangeFolder:
    """Files named `<sequence>.json`. They must appear whole: written aside and renamed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[int, LiveChange] = {}

    def after(self, sequence: int) -> Sequence[LiveChange]:
        """See `ChangeSource`; one look-up of a file name when there is nothing new."""
        found: list[LiveChange] = []
        while (change := self._one(sequence + len(found) + 1)) is not None:
            found.append(change)
        return found

    def _one(self, sequence: int) -> LiveChange | None:
        if sequence not in self._read:
            try:
                data = (self._folder / f"{sequence}.json").read_bytes()
            except FileNotFoundError:
                return None
            self._read[sequence] = LiveChange.from_bytes(data)
        return self._read[sequence]
