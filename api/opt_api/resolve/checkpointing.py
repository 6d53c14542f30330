"""From the checkpointing section to intervals."""

from __future__ import annotations

import math

from opt_api.documents.plan import CheckpointPlan
from opt_api.training.checkpointing import CheckpointSpec


def young_daly_seconds(stall_seconds: float, seconds_between_faults: float) -> float:
    """Time between saves that wastes least, to first order: sqrt(2 C M).

    Young, CACM 17(9), 1974; Daly, FGCS 22(3), 2006. C is the stall of one save, M the mean time between faults.
    """
    return math.sqrt(2 * stall_seconds * seconds_between_faults)


def resolve_checkpointing(spec: CheckpointSpec) -> CheckpointPlan:
    """The interval in steps or seconds, with what the formula was given where it was used."""
    automatic = spec.interval.steps is None and spec.interval.seconds is None
    optimum = young_daly_seconds(spec.assumed_stall_seconds, spec.assumed_hours_between_faults * 3600)
    return CheckpointPlan(
        interval_steps=spec.interval.steps,
        interval_seconds=_bounded(optimum) if automatic else spec.interval.seconds,
        automatic=automatic,
        assumed_stall_seconds=spec.assumed_stall_seconds,
        assumed_hours_between_faults=spec.assumed_hours_between_faults,
        memory_interval_steps=spec.memory_interval_steps,
        memory_tier=spec.memory_tier,
        retention=spec.retention,
        pinned=spec.pinned,
        export=spec.export,
        export_every_steps=spec.export_every_steps,
        upload_concurrency=spec.upload_concurrency,
    )


def _bounded(seconds: float) -> int:
    """Whole seconds between one second and a week, the bounds of the spec's own field."""
    return round(min(max(seconds, 1.0), 604_800.0))
