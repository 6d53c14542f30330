"""The state that the journal tells of, kept every so many events: a run of months has a million of them."""

from __future__ import annotations

from functools import reduce
from typing import Literal

import structlog
from pydantic import ValidationError

from opt_api.documents.base import Document
from opt_api.documents.keys import run_prefix
from opt_api.types import LongWhole
from opt_runtime.records.journal import RuntimeEvent, journal_of
from opt_runtime.records.replay import RunState, fold
from opt_runtime.records.series import Series
from opt_store import Corrupt, NotFound, Store

EVERY = 200
"""Events between two kept states; about 17 minutes of a quiet run."""
KEPT = 3
log = structlog.get_logger(__name__)


class KeptState(Document):
    """The state after an event. It only saves reading: where it is missing or damaged, the journal says the same."""

    kind: Literal["KeptState"] = "KeptState"
    version: Literal[1] = 1
    sequence: LongWhole
    """Number of that event."""
    state: RunState


def states_prefix(run: str) -> str:
    """All kept states of a run; ends in a slash, ready to list."""
    return f"{run_prefix(run)}/journal-states/"


def keep_state(store: Store, run: str, sequence: int, state: RunState) -> None:
    """Keep the state after an event, where it is time to; the oldest ones go.

    Raises:
        opt_store.StoreError: The store does not answer; nothing is lost, keep it again.
    """
    if sequence % EVERY:
        return
    prefix = states_prefix(run)
    store.put(f"{prefix}{sequence:09d}.json", KeptState(sequence=sequence, state=state).to_bytes())
    for key in sorted(info.key for info in store.list(prefix))[:-KEPT]:
        store.delete(key)


def remembered(store: Store, run: str) -> tuple[RunState, Series[RuntimeEvent]]:
    """The state after all events, and the journal to go on with.

    Raises:
        opt_store.StoreError: The store cannot be read.
        opt_runtime.core.hosts.LedgerError: A journal that no coordinator wrote.
    """
    journal, kept = journal_of(store, run), _newest(store, run)
    if kept is not None:
        journal.skip(kept.sequence)
    return reduce(fold, journal.read(), kept.state if kept else RunState()), journal


def _newest(store: Store, run: str) -> KeptState | None:
    for key in sorted((info.key for info in store.list(states_prefix(run))), reverse=True):
        try:
            return KeptState.from_bytes(store.get(key))
        except (NotFound, Corrupt, ValidationError) as fault:
            log.warning("kept state not usable; an older one or the whole journal is read", key=key, fault=str(fault))
    return None
