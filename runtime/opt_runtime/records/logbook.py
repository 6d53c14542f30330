"""The logbook of a run: one entry per attempt and per intervention, for people. Coordinator and people both write."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from opt_api.documents.keys import logbook_key
from opt_api.documents.logbook import LogbookEntry
from opt_runtime.records.series import Series
from opt_store import Store

TEXT, EVIDENCE = 1024, 32_000
"""Longest summary and evidence; what is longer is cut, for a long stack must not lose the entry."""


class Logbook:
    """Reads and appends entries of one run."""

    def __init__(self, store: Store, run: str) -> None:
        self._run = run
        self._series = Series(store, lambda number: logbook_key(run, number), LogbookEntry)

    def read(self) -> list[LogbookEntry]:
        """Entries that were not read before, oldest first."""
        return list(self._series.read())

    def append(self, entry: Callable[[int], LogbookEntry]) -> LogbookEntry:
        """Write an entry made by `entry_of`; others' entries written meanwhile come before it."""
        return self._series.append(entry)


def entry_of(run: str, **fields: Any) -> Callable[[int], LogbookEntry]:
    """An entry that lacks only its number; the time is now. Long texts are cut to what an entry can hold."""
    whole: dict[str, Any] = {"time": datetime.now(UTC), "run": run, "evidence": (), **fields}
    whole["summary"] = whole["summary"][:TEXT]
    whole["evidence"] = tuple(str(line)[:EVIDENCE] for line in whole["evidence"])
    return lambda number: LogbookEntry(sequence=number, **whole)
