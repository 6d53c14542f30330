"""When state is saved, where, and how long it is kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from opt_api.base import Model, at_most_one, changes
from opt_api.lists import Unique
from opt_api.types import Count, LongCount, Positive, Whole


class CheckpointInterval(Model):
    """Time between durable saves; by Young and Daly, sqrt(2 x stall x mean time between faults), when empty."""

    steps: LongCount | None = None
    seconds: Annotated[Count, Field(le=604_800)] | None = None

    rules = (at_most_one("steps", "seconds"),)


class Retention(Model):
    """Which checkpoints stay. Pinned and known-good ones always do."""

    keep_last: Annotated[Count, Field(le=1000)] = 3
    keep_every_steps: LongCount | None = None
    """Also keep each checkpoint whose step is a multiple of this."""


class CheckpointSpec(Model):
    """Two tiers: memory of the agents, every few steps, and the object store."""

    interval: CheckpointInterval = changes("step", default_factory=CheckpointInterval)
    memory_interval_steps: Annotated[Count, Field(le=10_000)] = changes("step", default=1)
    """Steps between copies into the agent's memory and its partner's; bounds what rungs 1 and 2 redo."""
    memory_tier: bool = changes("attempt", default=True)
    retention: Retention = changes("step", default_factory=Retention)
    pinned: Annotated[tuple[LongCount, ...], Field(max_length=128), Unique()] = changes("step", default=())
    """Steps whose checkpoints are never deleted."""
    export: bool = changes("step", default=True)
    """Write a consolidated Hugging Face directory beside the last checkpoint."""
    export_every_steps: LongCount | None = changes("step", default=None)
    """Also beside each checkpoint whose step is a multiple of this, so that serving can follow."""
    assumed_stall_seconds: Positive = changes("step", default=0.05)
    """Stall of a save until one has been measured; used by the automatic interval."""
    assumed_hours_between_faults: Positive = changes("step", default=12.2)
    """Mean time between faults until it has been measured (OPT-175B: 56 days / 110 stops)."""
    upload_concurrency: Annotated[Whole, Field(ge=1, le=64)] = changes("attempt", default=4)
    """Parts in flight per host."""
