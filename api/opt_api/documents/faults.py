"""Faults to order for a run on one machine: what breaks, where, at which step, and for how long."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from opt_api.base import Model
from opt_api.documents.base import Document
from opt_api.types import LongWhole, Positive, ShortText

FaultName = Literal[
    "kill rank", "stop rank", "slow rank", "hang rank", "hang save of rank", "hang eval of rank",
    "spoil gradient of rank", "flip weight of rank", "fill disk of rank",
    "kill host", "stop host", "stop agent of host", "return host",
    "kill coordinator", "stop coordinator", "kill rendezvous", "stop rendezvous",
    "spoil batch", "lose store",
]  # fmt: skip
"""Every fault that can be ordered; docs/recovery.md says what each does."""


class PlannedFault(Model):
    """One fault."""

    fault: FaultName
    target: ShortText = ""
    """Number of a rank, or name of a host, for the faults whose name ends in `rank` or `host`."""
    step: LongWhole
    """The run must have come to this step; `spoil batch` spoils exactly this one, every time it is computed."""
    seconds: Positive | None = None
    """When a fault that ends by itself does (`stop coordinator`, `stop rendezvous`, `lose store`); 10 when absent."""


class FaultPlan(Document):
    """Faults of one run, in any order: the file that `optctl run --fault-file` reads, as YAML or JSON."""

    kind: Literal["FaultPlan"] = "FaultPlan"
    version: Literal[1] = 1
    faults: Annotated[tuple[PlannedFault, ...], Field(max_length=10_000)]
