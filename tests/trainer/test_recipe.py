"""Schedule, loss scale and live changes: pure rules."""

from datetime import UTC, datetime

import pytest
import torch

from opt_api.documents.live_change import LiveChange
from opt_api.documents.manifests import ScalerState
from opt_api.training.data import BatchRange
from opt_api.training.optimisation import LossScale
from opt_trainer.recipe import changes, scaling
from opt_trainer.recipe.optimiser import clip_divisor
from opt_trainer.recipe.schedule import learning_rate
from support.plans import tiny_plan

PLAN = tiny_plan()


@pytest.mark.unit
@pytest.mark.parametrize(
    ("step", "share"), [(1, 0.1), (5, 0.5), (10, 1.0), (11, 0.99), (55, 0.55), (100, 0.1), (101, 0.1), (5000, 0.1)]
)
def test_learning_rate_rises_and_falls_linearly_to_a_tenth(step: int, share: float) -> None:
    assert learning_rate(PLAN, step, 0.02) == pytest.approx(0.02 * share)


@pytest.mark.unit
def test_no_warmup_begins_at_the_peak() -> None:
    plan = tiny_plan(optimisation={"learningRate": 1.0, "batchTokens": 128, "totalTokens": 1280, "warmupTokens": 0})
    assert learning_rate(plan, 1, 1.0) == pytest.approx(1 - 0.9 / 10)
    assert learning_rate(plan, 10, 1.0) == pytest.approx(0.1)


@pytest.mark.unit
def test_loss_scale_doubles_after_a_window_and_halves_to_the_floor() -> None:
    state = scaling.first(LossScale(initial=4.0, window=3, floor=1.0))
    seen = []
    for step, overflow in enumerate([False] * 7 + [True] * 6 + [False] * 3, start=1):
        state = scaling.after(state, step, 3, 1.0, overflow=overflow)
        seen.append(state.scale)
    assert seen == [4, 4, 8, 8, 8, 16, 16, 8, 4, 2, 1, 1, 1, 1, 1, 2]
    assert state == ScalerState(scale=2.0, good_steps=0, last_overflow_step=13, overflows=6)


@pytest.mark.unit
def test_a_raised_floor_takes_hold_at_once() -> None:
    assert scaling.after(ScalerState(scale=0.25), 9, 256, 1.0, overflow=False).scale == 1.0


@pytest.mark.unit
def test_a_change_replaces_what_it_names() -> None:
    before = changes.initial_values(PLAN)
    change = LiveChange(
        sequence=1,
        at_step=7,
        clip=0.3,
        skip_batches=(BatchRange(first=9, last=9),),
        reason="gradient spikes",
        who="policy",
        time=datetime(2026, 1, 1, tzinfo=UTC),
    )
    after = changes.apply(change, before)
    assert (after.clip, after.skip_batches) == (0.3, change.skip_batches)
    assert after.learning_rate == before.learning_rate == 0.01


@pytest.mark.unit
@pytest.mark.parametrize(("norm", "clip", "scale"), [(0.5, 1.0, 1.0), (4.0, 1.0, 1.0), (4.0, 0.3, 1024.0)])
def test_clipping_is_torchs(norm: float, clip: float, scale: float) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.tensor([norm])
    torch.nn.utils.clip_grad_norm_([parameter], clip)
    assert norm * scale / clip_divisor(norm, clip, scale) == pytest.approx(parameter.grad.item(), rel=1e-6)
