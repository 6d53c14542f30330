"""The course of one trigger: seen, run again, judged. Small state between two snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from opt_api.documents.manifests import RunningValues
from opt_runtime.coordinator.observed import Observed
from opt_runtime.core.divergence import CheckpointView
from opt_runtime.core.readings import Trigger
from opt_runtime.core.snapshot import DivergenceView


@dataclass
class TriggerCourse:
    """What became of the newest trigger; empty while there is none."""

    trigger: Trigger | None = None
    first_loss: float | None = None
    again_loss: float | None = None
    rerun: Literal["none", "running", "done"] = "none"

    def follow(self, observed: Observed) -> None:
        """Take note of a new trigger, or of the result of the second run."""
        if self.trigger is None and observed.trigger is not None:
            self.trigger = observed.trigger
            self.first_loss = observed.losses.get(self.trigger.step)
        if self.trigger and self.rerun == "running" and self.trigger.step in observed.losses:
            self.rerun, self.again_loss = "done", observed.losses[self.trigger.step]

    def run_again(self, observed: Observed) -> None:
        """The step is being run once more; its first result no longer counts as seen."""
        self.rerun = "running"
        if self.trigger:
            observed.losses.pop(self.trigger.step, None)

    def close(self) -> None:
        """It was dealt with."""
        self.trigger, self.first_loss, self.again_loss, self.rerun = None, None, None, "none"

    def view(
        self,
        observed: Observed,
        values: RunningValues,
        checkpoints: tuple[CheckpointView, ...],
        past_steps: tuple[int, ...],
    ) -> DivergenceView | None:
        """For the snapshot."""
        if self.trigger is None:
            return None
        return DivergenceView(
            self.trigger,
            self.first_loss,
            self.rerun,
            values,
            self.again_loss,
            checkpoints,
            observed.watch.activations,
            past_steps,
        )
