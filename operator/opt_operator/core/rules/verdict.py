"""What a rule answers, and what all rules ask about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from opt_api.documents.plan import Plan
from opt_api.resources import OPTTraining
from opt_api.training.status import Intent, Phase, Rung
from opt_operator.core.actions import Action
from opt_operator.core.builders.common import Parent
from opt_operator.core.builders.queueing import Queueing, queueing_of
from opt_operator.core.conditions import Said, Type
from opt_operator.core.snapshot import Snapshot

SOON_S = 2.0
"""Between two looks while something is under way."""
LATER_S = 15.0
IDLE_S = 600.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule has decided.

    Attributes:
        phase, reason, message: What the user reads; the reason is CamelCase from a closed set.
        actions: To be carried out, in order.
        update: Status fields that are new.
        conditions: Words about single aspects, beyond what the phase implies.
        requeue_after: Seconds.
    """

    phase: Phase
    reason: str
    message: str = ""
    actions: tuple[Action, ...] = ()
    update: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[Type, Said] = field(default_factory=dict)
    requeue_after: float = SOON_S


@dataclass(frozen=True)
class Case:
    """A snapshot of a training that can run, with what was worked out once.

    Attributes:
        plan: The plan in force: what the gang runs by, which may be older than the spec.
    """

    snapshot: Snapshot
    training: OPTTraining
    plan: Plan
    parent: Parent

    @property
    def number(self) -> int:
        """Attempt of the pods that are made now."""
        return self.snapshot.status.pod_attempt

    @property
    def open(self) -> bool:
        """Whether it is written down that pods of this attempt are being made."""
        intent = self.snapshot.status.intent
        return intent is not None and intent.attempt == self.number and intent.rung != "Pause"

    @property
    def queueing(self) -> Queueing:
        """Whom its pods wait for."""
        slots = self.plan.layout.hosts + self.training.spec.resilience.spares
        return queueing_of(self.training.spec.queueing, self.snapshot.apis, self.snapshot.pods, slots)

    def trainer_image(self) -> str:
        """Image of coordinator, hosts and evaluation."""
        return self.training.spec.pods.image or self.snapshot.settings.trainer_image

    def dataprep_image(self) -> str:
        """Image of data preparation."""
        return self.training.spec.pods.image or self.snapshot.settings.dataprep_image


def parent_of(snapshot: Snapshot) -> Parent:
    """The owner of every child."""
    assert snapshot.training is not None
    assert snapshot.resource is not None
    meta = snapshot.resource.metadata
    return Parent(snapshot.key.name, snapshot.key.namespace, meta.uid, snapshot.training.spec.pods)


def intend(case: Case, rung: Rung, reason: str, message: str) -> dict[str, Any]:
    """Status fields that write down, before anything is touched, that pods of a new attempt will be made."""
    number = case.number + 1
    return {"pod_attempt": number, "intent": _intent(number, rung, reason, message, case.snapshot.now)}


def _intent(attempt: int, rung: Rung, reason: str, message: str, now: datetime) -> Intent:
    return Intent(attempt=attempt, rung=rung, reason=reason, message=message[:2000], time=now)
