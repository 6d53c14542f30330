"""What a decision asks the shell to do. Each is carried out so that doing it twice is doing it once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from opt_api.serving.status import OPTServeStatus
from opt_api.training.status import OPTTrainingStatus

Object = dict[str, Any]
Kind = Literal[
    "Pod", "Job", "ConfigMap", "Service", "NetworkPolicy", "PodDisruptionBudget", "OPTTraining", "PodGroup",
    "Deployment", "LeaderWorkerSet", "OPTServe",
]  # fmt: skip
Concern = Literal[
    "opt-workload", "opt-config", "opt-network", "opt-identity", "opt-role", "opt-status", "opt-why", "opt-scale",
    "opt-routes",
]  # fmt: skip
"""Field managers: one for each concern, so that no two of our writes take fields from each other."""


@dataclass(frozen=True, slots=True)
class Create:
    """Make an object that must not be there yet; that it is there already is fine."""

    document: Object


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of the fields of one concern."""

    document: Object
    concern: Concern


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete exactly this object: another one of the same name has another uid and stays.

    Attributes:
        grace_s: None for the object's own; 0 to take it out of the API without the kubelet's word.
    """

    kind: Kind
    name: str
    uid: str
    grace_s: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Tell:
    """Say something to the coordinator; it may not hear it, and is then told again."""

    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """One event of one transition; its name is made from `key`, so that a second try is a conflict."""

    reason: str
    message: str
    key: str
    warning: bool = False


Action = Create | Apply | Delete | Tell | Event


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now.

    Attributes:
        rule: Which rule decided.
        actions: In order.
        status: To be written last; None to leave it.
        requeue_after: Seconds until the next look at the latest.
        trace: What was seen, which rules were asked, what they said.
    """

    rule: str
    actions: tuple[Action, ...] = ()
    status: OPTTrainingStatus | OPTServeStatus | None = None
    requeue_after: float = 600.0
    trace: tuple[str, ...] = field(default=())
