"""How many replicas: up at once, down after a while, to none and back. Pure."""

from __future__ import annotations

from datetime import datetime

from opt_api.serving.spec import AutoscalingSpec
from opt_api.serving.status import ScaleDown


def replicas(
    spec: AutoscalingSpec, current: int, demand: int | None, lower: ScaleDown | None, now: datetime
) -> tuple[int, ScaleDown | None]:
    """Replicas wanted from now on, and since when fewer would do.

    Args:
        spec: Bounds, target and delay.
        current: Wanted until now.
        demand: Requests in flight and held; None where nobody knows, and then nothing moves.
        lower: What this returned last.
        now: Wall time.
    """
    bounded = min(max(current, spec.min_replicas), spec.max_replicas)
    if demand is None:
        return bounded, lower
    needed = min(max(-(-demand // spec.target_in_flight), spec.min_replicas), spec.max_replicas)
    if needed >= bounded:
        return needed, None
    since = lower.since if lower else now
    peak = max(needed, lower.peak if lower else 0)
    if (now - since).total_seconds() < spec.scale_down_delay_seconds:
        return bounded, ScaleDown(since=since, peak=peak)
    return min(peak, bounded), None
