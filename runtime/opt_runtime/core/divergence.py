"""What to do when a run diverges: the paper's playbook (arXiv 2205.01068, section 2.5), as a pure function.

1. Run the step once more from the same state. Another result: a machine computes wrongly. The same: data or recipe.
2. Return to the newest checkpoint with a loss scale of at least 1 after which the last layer's activation norms fell.
3. Go on from there with a lower learning rate, a lower clip, or without the batches that did it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opt_api.documents.logbook import Cause, FieldChange
from opt_api.documents.manifests import RunningValues
from opt_api.training.data import BatchRange
from opt_api.training.resilience import DivergenceAction, DivergencePolicy
from opt_runtime.core.readings import Trigger


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """What the choice of a checkpoint needs to know of each."""

    step: int
    loss_scale: float | None = None
    poisoned: bool = False


@dataclass(frozen=True, slots=True)
class Intervention:
    """Go back to `to_step` (None: stay) and on with `values`; `changes` is what the logbook says of it."""

    cause: Cause
    to_step: int | None
    values: RunningValues
    changes: tuple[FieldChange, ...]
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The policy is at its end; a human must look."""

    cause: Cause
    evidence: tuple[str, ...]


def judge_rerun(first: float | None, again: float | None) -> bool:
    """Whether the same step from the same state gave another loss: then a machine is at fault, not the data.

    The trainer is deterministic for one world size, so any difference counts; two not-a-numbers are the same result.
    """
    if first is None or again is None:
        return first is not again
    return first != again and not (math.isnan(first) and math.isnan(again))


def choose_return(
    checkpoints: Sequence[CheckpointView],
    activations: Sequence[tuple[int, float]],
    before_step: int,
    min_loss_scale: float,
) -> int | None:
    """Step to return to: the newest good checkpoint after which activation norms fell.

    Without one, the newest good checkpoint: the paper's rule prefers, it does not forbid. None if nothing is good.

    Args:
        checkpoints: Any order.
        activations: (step, norm), ascending.
        before_step: Only checkpoints of earlier steps are places to return to.
        min_loss_scale: A checkpoint with a lower scale was already diverging.
    """
    good = sorted(
        (c.step for c in checkpoints if not c.poisoned and c.step < before_step and _scale_ok(c, min_loss_scale)),
        reverse=True,
    )
    ends = [before_step, *good]
    falling = (step for step, end in zip(good, ends, strict=False) if norms_fell(activations, step, end))
    return next(falling, good[0] if good else None)


def norms_fell(activations: Sequence[tuple[int, float]], first: int, last: int) -> bool:
    """Whether the least-squares slope of the norms over the steps [first, last) is negative; False below 2 points."""
    points = [(step, norm) for step, norm in activations if first <= step < last]
    if len(points) < 2:
        return False
    mean_step = sum(step for step, _ in points) / len(points)
    mean_norm = sum(norm for _, norm in points) / len(points)
    return sum((step - mean_step) * (norm - mean_norm) for step, norm in points) < 0


def intervene(
    trigger: Trigger,
    policy: DivergencePolicy,
    values: RunningValues,
    checkpoints: Sequence[CheckpointView],
    activations: Sequence[tuple[int, float]],
    past_steps: Sequence[int],
) -> Intervention | GiveUp:
    """The acts of the policy, taken together.

    Args:
        trigger: What set it off.
        policy: The acts, their factors and limits.
        values: The running fields as they are in force.
        checkpoints: Places to return to.
        activations: (step, norm) of the last layer, ascending.
        past_steps: Steps at which earlier interventions happened.
    """
    recent = [step for step in past_steps if trigger.step - step <= policy.window_steps]
    if len(recent) >= policy.max_interventions:
        word = f"{len(recent)} interventions within {policy.window_steps} steps; {policy.max_interventions} are allowed"
        return GiveUp(trigger.cause, (trigger.evidence, word))
    to_step = None
    if "rollback" in policy.actions:
        to_step = choose_return(checkpoints, activations, trigger.step, policy.min_loss_scale)
        if to_step is None:
            return GiveUp(trigger.cause, (trigger.evidence, "no checkpoint is good enough to return to"))
    after, changes = values, list[FieldChange]()
    for action in policy.actions:
        after, made = ACTS[action](after, policy, trigger.step)
        changes += made
    return Intervention(trigger.cause, to_step, after, tuple(changes), (trigger.evidence,))


Act = Callable[[RunningValues, DivergencePolicy, int], tuple[RunningValues, tuple[FieldChange, ...]]]


def _rollback(values: RunningValues, _: DivergencePolicy, __: int) -> tuple[RunningValues, tuple[FieldChange, ...]]:
    return values, ()


def _lower_rate(values: RunningValues, p: DivergencePolicy, _: int) -> tuple[RunningValues, tuple[FieldChange, ...]]:
    lower = values.learning_rate * p.learning_rate_factor
    change = _change("optimisation.learningRate", values.learning_rate, lower)
    return values.model_copy(update={"learning_rate": lower}), (change,)


def _lower_clip(values: RunningValues, p: DivergencePolicy, _: int) -> tuple[RunningValues, tuple[FieldChange, ...]]:
    lower = values.clip * p.clip_factor
    return values.model_copy(update={"clip": lower}), (_change("optimisation.clip", values.clip, lower),)


def _skip(values: RunningValues, p: DivergencePolicy, step: int) -> tuple[RunningValues, tuple[FieldChange, ...]]:
    skipped = (*values.skip_batches, BatchRange(first=max(step, 1), last=max(step, 1) + p.skip_steps - 1))
    change = _change("data.skipBatches", _ranges(values.skip_batches), _ranges(skipped))
    return values.model_copy(update={"skip_batches": skipped}), (change,)


ACTS: dict[DivergenceAction, Act] = {
    "rollback": _rollback,
    "lower-learning-rate": _lower_rate,
    "lower-clip": _lower_clip,
    "skip-batches": _skip,
}


def _change(field: str, before: object, after: object) -> FieldChange:
    return FieldChange(field=field, before=str(before)[-256:], after=str(after)[-256:])


def _ranges(ranges: Sequence[BatchRange]) -> str:
    return ", ".join(f"{r.first}-{r.last}" for r in ranges) or "none"


def _scale_ok(checkpoint: CheckpointView, minimum: float) -> bool:
    return checkpoint.loss_scale is None or checkpoint.loss_scale >= minimum
