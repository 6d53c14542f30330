"""The logbook: append-only, one entry per attempt and per intervention, readable by a person."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from opt_api.base import Model
from opt_api.documents.base import Document
from opt_api.types import LongWhole, Message, NonNegative, ShortText, Text, Whole

Cause = Literal[
    "Started", "Completed", "Suspended", "Resumed", "WorkerExit", "WorkerKilled", "HostLost", "HostDrained", "Hang",
    "Straggler", "OutOfMemory", "DiskFull", "StoreUnavailable", "NonFinite", "LossSpike", "LossScaleFloor",
    "ActivationNorm", "SilentCorruption", "CheckpointPoisoned", "DataCorrupt", "BadSpec", "CrashLoop",
    "BudgetSpent", "SparesSpent", "CircuitBreaker", "LiveChange", "CoordinatorLost", "Unknown",
]  # fmt: skip
GoodputClass = Literal[
    "productive", "redone", "init", "load", "save_stall", "detect", "reschedule", "eval", "idle_spare"
]
"""Every second of every host is in exactly one of these."""


class FieldChange(Model):
    """One value that was changed."""

    field: Text
    before: ShortText
    after: ShortText


class HostNote(Model):
    """One host that took part in an event."""

    name: Text
    hardware: Text = ""
    """Provider id, serial or GPU UUID: the machine, whatever its name."""
    verdict: ShortText = ""


class LogbookEntry(Document):
    """What happened, what was seen, what was done, what it cost, by whom."""

    kind: Literal["LogbookEntry"] = "LogbookEntry"
    version: Literal[1] = 1
    sequence: LongWhole
    """Place in the book; keys are made from it, so a repeated write is refused, not doubled."""
    time: datetime
    run: Text
    attempt: Whole
    cause: Cause
    summary: Text
    evidence: tuple[Message, ...] = ()
    hosts: tuple[HostNote, ...] = ()
    rung: Whole = Field(default=0, le=5)
    """How far recovery had to go; 0 for none."""
    from_step: LongWhole | None = None
    to_step: LongWhole | None = None
    steps_lost: LongWhole = 0
    seconds: dict[str, NonNegative] = Field(default_factory=dict)
    """Seconds per phase of the recovery, or per goodput class of the attempt."""
    changes: tuple[FieldChange, ...] = ()
    by: Literal["policy", "human"] = "policy"
    who: ShortText = ""
    reason: Text = ""
