"""Changes of running fields: which one is next, when it takes effect, and what it leaves in force. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from opt_api.documents.live_change import LiveChange
from opt_api.documents.manifests import RunningValues
from opt_api.documents.plan import Plan


class ChangeSource(Protocol):
    """Where changes arrive; each rank has its own, and they may see the same change at different times."""

    def after(self, sequence: int) -> Sequence[LiveChange]:
        """Changes with higher numbers, in order and without gaps; does not wait."""


def initial_values(plan: Plan) -> RunningValues:
    """What is in force at the start of a run."""
    scale = plan.precision.loss_scale
    return RunningValues(
        learning_rate=plan.recipe.peak_learning_rate,
        clip=plan.recipe.clip,
        loss_scale_floor=scale.floor if scale else None,
        skip_batches=plan.skip_batches,
    )


def apply(change: LiveChange, values: RunningValues) -> RunningValues:
    """The values in force from the change's step on."""
    fields = {name: getattr(change, name) for name in RunningValues.model_fields}
    return values.model_copy(update={name: value for name, value in fields.items() if value is not None})
