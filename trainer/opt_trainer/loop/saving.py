"""When a save is due. The clock is rank 0's; the others learn of it in the step's agreement."""

from __future__ import annotations

import time

from opt_api.documents.plan import CheckpointPlan
from opt_api.resolve.checkpointing import young_daly_seconds


class SaveClock:
    """Counts steps and seconds since the last save.

    Args:
        plan: Interval in steps or seconds, or the formula's inputs.
        step: Of the newest durable checkpoint; steps done at the start count as saved where there is none.
        age_seconds: Since it became durable, or since the start.
    """

    def __init__(self, plan: CheckpointPlan, step: int, age_seconds: float = 0.0) -> None:
        self._plan = plan
        self.last_step = step
        self._last_time = time.monotonic() - age_seconds
        self._stall_seconds: float | None = None

    def due(self, step: int) -> bool:
        """Whether the state after `step` is to be saved; stays true until `saved`."""
        if self._plan.interval_steps is not None:
            return step // self._plan.interval_steps > self.last_step // self._plan.interval_steps
        return time.monotonic() - self._last_time >= self._interval_seconds()

    def must(self, step: int) -> bool:
        """Whether the plan pins this very step, so that the save cannot wait for an earlier one."""
        return step in self._plan.pinned

    def exports(self, step: int, *, last: bool) -> bool:
        """Whether a Hugging Face directory is written beside the checkpoint."""
        every = self._plan.export_every_steps
        return (last and self._plan.export) or (every is not None and step // every > self.last_step // every)

    def saved(self, step: int, stall_seconds: float) -> None:
        """A save began, and training stood still for it that long."""
        self.last_step, self._last_time, self._stall_seconds = step, time.monotonic(), stall_seconds

    def _interval_seconds(self) -> float:
        """Young and Daly's optimum from the stall as measured, where the plan leaves the interval to the formula."""
        assert self._plan.interval_seconds is not None
        if not self._plan.automatic or self._stall_seconds is None:
            return self._plan.interval_seconds
        return max(1.0, young_daly_seconds(self._stall_seconds, self._plan.assumed_hours_between_faults * 3600))
