"""What a decision asks the coordinator to do. Each is carried out so that doing it twice is doing it once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from opt_api.documents.logbook import Cause, FieldChange
from opt_api.documents.manifests import RunningValues
from opt_runtime.core.hosts import HostEvent
from opt_runtime.core.rungs import Rung


@dataclass(frozen=True, slots=True)
class Restore:
    """Where an attempt begins.

    Attributes:
        step: The step to begin from; None for the newest good checkpoint of the store.
        sources: Hosts whose memory holds each rank's unit of that step, its own first; empty when it comes from the
            store.
    """

    step: int | None = None
    sources: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Order a new attempt: whatever runs of an older one is stopped first, by each agent for itself.

    Attributes:
        number: Of the attempt.
        hosts: In the order of their ranks.
        restore: Where it begins.
        rung: How far recovery went; 0 for a start that recovers from nothing.
        cause: Why.
        evidence: What was seen, in words.
        culprits: Hosts the cause was found on.
        stacks: Ranks whose stacks are collected before they are killed.
        values: Running fields that are new with this attempt.
        changes: What the logbook says of them.
        poison_after: Checkpoints of later steps are not to be trusted and are marked so; None for none.
    """

    number: int
    hosts: tuple[str, ...]
    restore: Restore
    rung: Rung | int
    cause: Cause
    evidence: tuple[str, ...] = ()
    culprits: tuple[str, ...] = ()
    stacks: tuple[int, ...] = ()
    values: RunningValues | None = None
    changes: tuple[FieldChange, ...] = ()
    poison_after: int | None = None


@dataclass(frozen=True, slots=True)
class MarkHost:
    """One transition in the ledger of hosts; `fault` makes the ledger remember it against the machine."""

    hardware: str
    event: HostEvent
    reason: str
    fault: bool = False


@dataclass(frozen=True, slots=True)
class RememberFailure:
    """Count a failure for the budget and the crash loop."""

    cause: Cause
    step: int


@dataclass(frozen=True, slots=True)
class Note:
    """Write to the logbook that something was seen and nothing had to be done."""

    cause: Cause
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop all workers and wait for a human (or, for spent spares, for hosts)."""

    cause: Cause
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StopGang:
    """Ask every rank to save and stop by itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class Complete:
    """All ranks came to their end."""


Action = StartAttempt | MarkHost | RememberFailure | Note | Pause | StopGang | Complete


@dataclass(frozen=True, slots=True)
class Decision:
    """Actions in the order in which they are carried out, and when to look again at the latest, in seconds."""

    actions: tuple[Action, ...] = ()
    requeue_after: float = 0.5
