"""The loop's own state from step to step: what is in force, what was last measured, and what a change does. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from opt_api.documents.live_change import LiveChange
from opt_api.documents.manifests import RunningValues, ScalerState
from opt_api.documents.plan import Plan
from opt_trainer.errors import Diverged
from opt_trainer.loop.agreement import Sums
from opt_trainer.recipe import changes, scaling
from opt_trainer.state import LoopState


@dataclass(frozen=True, slots=True)
class Measured:
    """One step's numbers, over the whole gang.

    Attributes:
        loss: Mean over the tokens of the batch, nats.
        gradient_norm: Of the true gradients, before clipping.
        parameter_norm: Of the weights the step was computed with.
        activation_norm: L2 norm of the last block's output, mean over tokens.
        overflow: The update is left out (float16 only).
    """

    loss: float
    gradient_norm: float
    parameter_norm: float
    activation_norm: float
    overflow: bool


def fresh(plan: Plan) -> LoopState:
    """Before step 1."""
    scale = plan.precision.loss_scale
    return LoopState(scaler=scaling.first(scale) if scale else None, running=changes.initial_values(plan))


def resumed(plan: Plan, state: LoopState) -> LoopState:
    """A state from a checkpoint; one written before a field existed, or in another number format, gets it here."""
    first = fresh(plan)
    scaler = (state.scaler or first.scaler) if plan.precision.loss_scale else None
    return replace(state, scaler=scaler, running=state.running or first.running)


def running_of(state: LoopState) -> RunningValues:
    """The values in force; a state made by `fresh` or `resumed` has them."""
    assert state.running is not None
    return state.running


def loss_scale_of(state: LoopState) -> float:
    """Factor on the gradients."""
    return state.scaler.scale if state.scaler else 1.0


def judge(plan: Plan, state: LoopState, step: int, sums: Sums) -> Measured:
    """Means and norms from the gang's sums, and whether the step counts.

    Raises:
        Diverged: Loss or gradient is not finite, and no loss scale explains it.
    """
    tokens = plan.tokens_per_step * plan.layout.tensor_parallel
    loss, norm = sums.loss / tokens, math.sqrt(sums.gradient_square) / loss_scale_of(state)
    finite = math.isfinite(loss) and math.isfinite(norm)
    if not finite and state.scaler is None:
        raise Diverged(
            f"step {step}: loss {loss}, gradient norm {norm}; both must be finite. The weights are still those after "
            f"step {step - 1}; go back to an earlier checkpoint, lower the learning rate or skip the batch"
        )
    return Measured(loss, norm, math.sqrt(sums.parameter_square), sums.activation_norm / tokens, not finite)


def after_step(plan: Plan, state: LoopState, step: int, measured: Measured | None) -> LoopState:
    """The state when `step` is done; `measured` is None for a skipped batch. A loss that is not finite is not kept."""
    if measured is None:
        return replace(state, step=step)
    kept = state if measured.overflow else replace(state, loss=measured.loss, activation_norm=measured.activation_norm)
    return replace(
        kept, step=step, tokens=state.tokens + plan.tokens_per_step, scaler=_scaler(plan, state, step, measured)
    )


def due_changes(known: Sequence[LiveChange], next_step: int) -> Sequence[LiveChange]:
    """Those that take effect with `next_step` or should have before; one that is due takes those before it along."""
    count = max((at for at, change in enumerate(known, 1) if change.at_step <= next_step), default=0)
    return known[:count]


def changed(state: LoopState, due: Sequence[LiveChange]) -> LoopState:
    """The state with these changes in force."""
    for change in due:
        state = replace(state, running=changes.apply(change, running_of(state)), applied_change=change.sequence)
    return state


def _scaler(plan: Plan, state: LoopState, step: int, measured: Measured) -> ScalerState | None:
    settings = plan.precision.loss_scale
    if state.scaler is None or settings is None:
        return None
    floor = running_of(state).loss_scale_floor or settings.floor
    return scaling.after(state.scaler, step, settings.window, floor, overflow=measured.overflow)
