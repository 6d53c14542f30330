"""The dynamic loss scale of float16, with its floor; the rules of the released training code.

The scale doubles after a window of good steps and halves after an overflow; at the floor it stays, and overflowing
updates are left out and counted.
"""

from __future__ import annotations

from opt_api.documents.manifests import ScalerState
from opt_api.training.optimisation import LossScale

FACTOR = 2.0


def first(settings: LossScale) -> ScalerState:
    """The state before step 1."""
    return ScalerState(scale=settings.initial)


def after(state: ScalerState, step: int, window: int, floor: float, *, overflow: bool) -> ScalerState:
    """The state after step `step`; a floor that was raised takes hold at once."""
    if overflow:
        scale = max(state.scale / FACTOR, floor)
        return ScalerState(scale=scale, good_steps=0, last_overflow_step=step, overflows=state.overflows + 1)
    good = state.good_steps + 1
    grown = good >= window
    scale = max(state.scale * FACTOR if grown else state.scale, floor)
    return state.model_copy(update={"scale": scale, "good_steps": 0 if grown else good})
