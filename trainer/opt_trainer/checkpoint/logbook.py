"""The trainer's one kind of word in the run's logbook: a checkpoint that could not be believed."""

from __future__ import annotations

from datetime import UTC, datetime

from opt_api.documents.keys import logbook_key, logbook_prefix, step_and_attempt
from opt_api.documents.logbook import LogbookEntry
from opt_store import PreconditionFailed, Store

_REASON_LIMIT = 1000


def tell_poisoned(store: Store, run: str, attempt: int, prefix: str, reason: str) -> LogbookEntry:
    """Append an entry; entries are numbered from 1 without gaps, and whoever else writes keeps theirs."""
    number = sum(1 for _ in store.list(logbook_prefix(run))) + 1
    step = (step_and_attempt(prefix) or (None, 0))[0]
    while True:
        entry = LogbookEntry(
            sequence=number,
            time=datetime.now(UTC),
            run=run,
            attempt=attempt,
            cause="CheckpointPoisoned",
            summary=f"checkpoint {prefix} is damaged and was passed over; the one before it is taken",
            evidence=(reason[:_REASON_LIMIT],),
            from_step=step,
            who="trainer",
        )
        try:
            store.put(logbook_key(run, number), entry.to_bytes(), if_absent=True)
        except PreconditionFailed:
            number += 1
        else:
            return entry
