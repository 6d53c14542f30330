"""One recovery from decision to the next step, measured phase by phase, for the logbook."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from opt_api.documents.heartbeat import Heartbeat
from opt_api.documents.logbook import HostNote
from opt_runtime.core.actions import StartAttempt
from opt_runtime.messages import Stack


@dataclass
class Recovery:
    """What an attempt's beginning cost; times on the coordinator's clock.

    Attributes:
        start: The decision.
        last_progress: When the gang before was last heard of alive.
        decided: When the decision was taken.
        reached: Highest step reached before.
        hosts: Who takes part.
        stacks: Where ranks were before they were killed for it.
    """

    start: StartAttempt
    last_progress: float
    decided: float
    reached: int
    hosts: tuple[HostNote, ...] = ()
    born: float | None = None
    working: float | None = None
    from_step: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    stacks: dict[int, str] = field(default_factory=dict)

    def take_stacks(self, stacks: Iterable[Stack]) -> None:
        """Keep those that were collected for this attempt."""
        self.stacks |= {stack.rank: stack.text for stack in stacks if stack.before_attempt == self.start.number}

    def hear(self, beat: Heartbeat, now: float) -> bool:
        """Take a heartbeat of the new attempt; True once the first step is done and the entry can be written."""
        if self.born is None:
            self.born = now
            self.seconds["reschedule"] = now - self.decided
        if self.working is None and beat.section not in ("init", "load"):
            self.working = now
            self.from_step = beat.step if self.start.restore.step is None else self.start.restore.step
            self.seconds["init_and_load"] = now - self.born
        if self.working is None or self.from_step is None or beat.step <= self.from_step:
            return False
        self.seconds["first_step"] = now - self.working
        self.seconds["in_all"] = now - self.last_progress
        return True

    def entry(self) -> dict[str, Any]:
        """Fields of the logbook entry; complete or as far as it came."""
        began = self.from_step
        lost = max(self.reached - began, 0) if began is not None else 0
        detect = max(self.decided - self.last_progress, 0.0)
        return {
            "attempt": self.start.number,
            "cause": self.start.cause,
            "rung": self.start.rung,
            "summary": f"attempt {self.start.number} on {', '.join(self.start.hosts)}: {self._how()}",
            "evidence": (*self.start.evidence, *(f"stack of rank {r}:\n{s}" for r, s in sorted(self.stacks.items()))),
            "hosts": self.hosts,
            "from_step": self.reached,
            "to_step": began,
            "steps_lost": lost,
            "seconds": {"detect": detect, **self.seconds},
            "changes": self.start.changes,
        }

    def _how(self) -> str:
        restore = self.start.restore
        if restore.sources:
            return f"rung {self.start.rung}, from memory at step {restore.step}"
        where = "the newest good checkpoint" if restore.step is None else f"the checkpoint of step {restore.step}"
        return f"rung {self.start.rung}, from {where}" if self.start.rung else "from the store, or from the beginning"
