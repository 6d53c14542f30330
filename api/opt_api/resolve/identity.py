"""The identity of a run: what must stay the same for its checkpoints to be its own."""

from __future__ import annotations

from typing import Any

from opt_api.architecture import Architecture
from opt_api.canonical import digest_of
from opt_api.change_rules import identity
from opt_api.documents.plan import PrecisionPlan, RecipePlan
from opt_api.training.data import DataSpec
from opt_api.types import Digest


def identity_digest(
    architecture: Architecture, data: DataSpec, recipe: RecipePlan, precision: PrecisionPlan, floor_ratio: float
) -> Digest:
    """Digest of every resolved number whose change would make it another run.

    Resolved numbers, not the spec's words: a preset spelled out is the same run. Name, gang, spares, intervals and
    what may change at a step (learning rate, clip, loss-scale floor, skipped batches) are left out.
    """
    parts: dict[str, Any] = {
        "architecture": architecture.wire(),
        "data": identity(data),
        "recipe": identity(recipe),
        "precision": identity(precision),
        "minLearningRateRatio": floor_ratio,
    }
    return digest_of(parts)
