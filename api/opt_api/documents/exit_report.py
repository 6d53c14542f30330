"""Why a worker ended, for whoever restarts it. Fits a container's termination message (4096 bytes)."""

from __future__ import annotations

from typing import Literal

from opt_api.documents.base import Document
from opt_api.types import LongWhole, Text, Whole

ExitCause = Literal[
    "Completed", "Stopped", "BadSpec", "BadData", "BadCheckpoint", "BadHost", "Diverged", "LostPeer", "OutOfMemory",
    "StoreUnavailable", "Internal",
]  # fmt: skip

EXIT_CODES: dict[ExitCause, int] = {
    "Completed": 0,
    "Internal": 1,
    "BadSpec": 64,
    "BadData": 65,
    "BadCheckpoint": 66,
    "StoreUnavailable": 69,
    "BadHost": 70,
    "OutOfMemory": 71,
    "Diverged": 72,
    "LostPeer": 75,
    "Stopped": 76,
}
"""Process exit code of each cause. 64 and up keep clear of shells, signals (128+) and Python's own 1 and 2."""

RETRYABLE: dict[ExitCause, bool] = {
    "Completed": False,
    "Internal": True,
    "BadSpec": False,
    "BadData": False,
    "BadCheckpoint": True,
    "StoreUnavailable": True,
    "BadHost": True,
    "OutOfMemory": False,
    "Diverged": False,
    "LostPeer": True,
    "Stopped": True,
}
"""Whether starting the same plan again, on good hosts, can help."""


class ExitReport(Document):
    """One worker's end."""

    kind: Literal["ExitReport"] = "ExitReport"
    version: Literal[1] = 1
    cause: ExitCause
    message: Text
    """What was found, what was expected, what to do; at most 1024 characters."""
    attempt: Whole
    rank: Whole
    step: LongWhole
    """The last step that was finished; one whose loss is not finite is not."""
    saved_step: LongWhole | None = None
    """Step of the checkpoint written on the way out."""
