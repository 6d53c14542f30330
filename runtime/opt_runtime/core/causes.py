"""Causes of failure, and what each says about worker, host, gang and budget. One row a cause."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

from opt_api.documents.exit_report import ExitCause, ExitReport
from opt_api.documents.logbook import Cause

Scope = Literal["worker", "host", "gang", "human"]
"""Who has to go: the processes alone, the host, everything back to the store, or nobody before a human looked."""


@dataclass(frozen=True, slots=True)
class Trait:
    """What follows from a cause.

    Attributes:
        scope: How much has to be replaced.
        infrastructure: Free of the failure budget.
        rank: Which of several simultaneous findings is the root: the lowest.
        blames_host: The ledger of hosts remembers it against the machine; only where the host itself is replaced.
    """

    scope: Scope
    infrastructure: bool
    rank: int
    blames_host: bool = False


TRAITS: dict[Cause, Trait] = {
    "BadSpec": Trait("human", infrastructure=False, rank=0),
    "CircuitBreaker": Trait("human", infrastructure=False, rank=0),
    "CrashLoop": Trait("human", infrastructure=False, rank=0),
    "BudgetSpent": Trait("human", infrastructure=False, rank=0),
    "SparesSpent": Trait("human", infrastructure=True, rank=0),
    "DataCorrupt": Trait("human", infrastructure=False, rank=0),
    "HostLost": Trait("host", infrastructure=True, rank=1, blames_host=True),
    "HostDrained": Trait("host", infrastructure=True, rank=1),
    "SilentCorruption": Trait("host", infrastructure=True, rank=1, blames_host=True),
    "DiskFull": Trait("host", infrastructure=True, rank=2),
    "NonFinite": Trait("gang", infrastructure=False, rank=2),
    "LossSpike": Trait("gang", infrastructure=False, rank=2),
    "LossScaleFloor": Trait("gang", infrastructure=False, rank=2),
    "ActivationNorm": Trait("gang", infrastructure=False, rank=2),
    "CheckpointPoisoned": Trait("gang", infrastructure=True, rank=3),
    "StoreUnavailable": Trait("worker", infrastructure=True, rank=3),
    "OutOfMemory": Trait("worker", infrastructure=False, rank=4),
    "WorkerKilled": Trait("worker", infrastructure=True, rank=4),
    "WorkerExit": Trait("worker", infrastructure=False, rank=5),
    "Hang": Trait("worker", infrastructure=False, rank=6),
    "Straggler": Trait("host", infrastructure=True, rank=7, blames_host=True),
    "Unknown": Trait("worker", infrastructure=False, rank=9),
}
"""Causes that call for recovery; the others of the logbook (Started, LiveChange, ...) are events without damage."""

BY_REPORT: dict[ExitCause, Cause | None] = {
    "Completed": None,
    "Stopped": None,
    "BadSpec": "BadSpec",
    "BadData": "DataCorrupt",
    "BadCheckpoint": "CheckpointPoisoned",
    "BadHost": "HostDrained",
    "Diverged": "NonFinite",
    "LostPeer": "Unknown",
    "OutOfMemory": "OutOfMemory",
    "StoreUnavailable": "StoreUnavailable",
    "Internal": "WorkerExit",
}
"""What a worker's own word means. LostPeer is a victim's word: someone else is the root."""

BY_SIGNAL: dict[int, Cause] = {signal.SIGKILL: "WorkerKilled", signal.SIGTERM: "WorkerKilled"}
"""Signals that come from outside; all others (SEGV, ABRT, BUS, ...) are the process's own doing."""


FULL = ("[Errno 28]", "[Errno 27]", "[Errno 122]", "No space left on device", "StoreFull")
"""Words of a disk, a quota or a file limit that is used up; errors of many libraries carry them in their text."""


def cause_of_exit(code: int | None, number: int | None, report: ExitReport | None) -> Cause | None:
    """Why a worker ended; None if it ended as it should.

    A signal outweighs a report: a worker killed after it had reported its end has still not ended by itself.
    """
    if number is not None:
        return BY_SIGNAL.get(number, "WorkerExit")
    if report is not None and report.cause == "Internal" and any(word in report.message for word in FULL):
        return "DiskFull"
    if report is not None:
        return BY_REPORT[report.cause]
    return None if code == 0 else "WorkerExit"
