"""The journal: what a coordinator must know again after it was killed. One writer at a time.

Written in the order in which things happened; folding it from the beginning gives the state. A coordinator that finds
another's event where its own belongs has been replaced, and ends.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from opt_api.base import Model
from opt_api.documents.base import Document
from opt_api.documents.keys import run_prefix
from opt_api.documents.live_change import LiveChange
from opt_api.documents.logbook import Cause
from opt_api.documents.manifests import RunningValues
from opt_api.training.resilience import Section
from opt_api.types import LongWhole, NonNegative, ShortText, Text, Whole
from opt_runtime.core.hosts import HostEvent
from opt_runtime.records.series import Series
from opt_store import Store

What = Literal[
    "CoordinatorStarted", "HostSeen", "HostMarked", "AttemptStarted", "Paused", "Completed", "Failed", "Intervened",
    "Progress", "Suspend", "Resume", "Changed", "Verified",
]  # fmt: skip


class StepLoss(Model):
    """Loss of one step, in nats per token."""

    step: LongWhole
    loss: float


class RuntimeEvent(Document):
    """One event; fields that an event of its kind does not have are absent."""

    kind: Literal["RuntimeEvent"] = "RuntimeEvent"
    version: Literal[1] = 1
    sequence: LongWhole
    writer: ShortText
    """Which coordinator process wrote it."""
    time: NonNegative
    """Seconds since the epoch."""
    what: What
    hardware: ShortText = ""
    host: ShortText = ""
    host_event: HostEvent | None = None
    fault: bool = False
    max_faults: Whole | None = None
    """The limit that held when a fault was blamed on a machine: a replay judges by it, whatever the spec says later."""
    cause: Cause | None = None
    reason: Text = ""
    attempt: Whole | None = None
    gang: Annotated[tuple[ShortText, ...], Field(max_length=16384)] = ()
    """Hosts of the attempt, in the order of their ranks."""
    step: LongWhole | None = None
    """Highest step ever reached, or the step of a failure or an intervention."""
    trajectory: Whole | None = None
    """Number of the attempt that last began from the store: the course of the run that memory copies belong to."""
    loss: float | None = None
    """The newest, with a Progress event."""
    losses: Annotated[tuple[StepLoss, ...], Field(max_length=1000)] = ()
    """Since the last Progress event, ascending; thinned where steps are many."""
    values: RunningValues | None = None
    live_change: LiveChange | None = None
    steps_lost: LongWhole = 0
    """Steps done again since the run began, with a Progress event."""
    goodput: dict[str, NonNegative] = Field(default_factory=dict)
    """Host seconds by class since the run began."""
    section_seconds: dict[Section, NonNegative] = Field(default_factory=dict)
    """p99 of how long a section takes, with a Progress event: the next coordinator tells waiting from working by it."""


def event_key(run: str, number: int) -> str:
    """Key of one event."""
    return f"{run_prefix(run)}/journal/{number:09d}.json"


def journal_of(store: Store, run: str) -> Series[RuntimeEvent]:
    """The journal of a run."""
    return Series(store, lambda number: event_key(run, number), RuntimeEvent)
