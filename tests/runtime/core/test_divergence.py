"""Triggers, the choice of a checkpoint, and the policy's acts with before and after."""

import math
from dataclasses import replace

import pytest

from opt_api.documents.manifests import RunningValues
from opt_api.training.data import BatchRange
from opt_api.training.resilience import DivergencePolicy
from opt_runtime.core.divergence import (
    ACTS,
    CheckpointView,
    GiveUp,
    Intervention,
    choose_return,
    intervene,
    judge_rerun,
)
from opt_runtime.core.readings import Reading, Trigger, Watch, observe
from support.gang_views import beat

pytestmark = pytest.mark.unit
POLICY = DivergencePolicy(loss_spike_span_steps=10, activation_norm_rise_steps=8, max_gradient_norm=50)
VALUES = RunningValues(learning_rate=2e-4, clip=1.0)
CHECKPOINTS = tuple(CheckpointView(step, loss_scale=4.0) for step in (10, 20, 30))


def watched(steps: int = 20, watch: Watch | None = None) -> Watch:
    watch = watch or Watch()
    for step in range(watch.last_step + 1, watch.last_step + 1 + steps):
        watch, trigger = observe(watch, Reading(step, 3.0 - step * 0.01, 1.0, 4.0, 10.0), POLICY)
        assert trigger is None
    return watch


@pytest.mark.parametrize(
    ("reading", "cause", "word"),
    [
        (Reading(20, math.nan), "NonFinite", "not a finite"),
        (Reading(20, math.inf), "NonFinite", "not a finite"),
        (Reading(20, 9.0), "LossSpike", "above 1.5 x its mean"),
        (Reading(20, 3.0, gradient_norm=51.0), "LossSpike", "gradient norm 51"),
        (Reading(20, 3.0, loss_scale=0.5), "LossScaleFloor", "below 1"),
    ],
)
def test_triggers(reading: Reading, cause: str, word: str) -> None:
    before = watched()
    after, trigger = observe(before, reading, POLICY)
    assert trigger is not None
    assert (trigger.cause, trigger.step) == (cause, 20)
    assert word in trigger.evidence
    assert (after.loss, after.seen) == (before.loss, before.seen)
    assert observe(before, reading, DivergencePolicy(enabled=False))[1] is None


def test_a_young_mean_judges_no_spike_and_an_old_step_is_no_reading() -> None:
    assert observe(watched(5), Reading(5, 9.0), POLICY)[1] is None
    assert observe(watched(5), Reading(3, math.nan), POLICY) == (watched(5), None)


@pytest.mark.parametrize(("slope", "triggers"), [(0.0, True), (-0.01, False)])
def test_rising_activation_norms_count_only_while_the_loss_does_not_fall(slope: float, triggers: bool) -> None:
    watch, trigger = Watch(), None
    for step in range(40):
        watch, trigger = observe(watch, Reading(step, 3.0 + slope * step, activation_norm=10.0 + step), POLICY)
        if trigger:
            break
    assert (trigger is not None and trigger.cause == "ActivationNorm") == triggers


def test_a_heartbeat_that_says_not_finite_is_read_so() -> None:
    assert math.isnan(Reading.of(beat(0, loss=None, loss_finite=False)).loss or 0.0)


def test_the_papers_rule_for_the_checkpoint() -> None:
    falls_after_10 = [(step, 100.0 - step if step < 20 else step) for step in range(10, 40)]
    assert choose_return(CHECKPOINTS, falls_after_10, 40, 1.0) == 10
    assert choose_return(CHECKPOINTS, [(s, 100.0 - s) for s in range(40)], 40, 1.0) == 30
    assert choose_return(CHECKPOINTS, [(s, float(s)) for s in range(40)], 40, 1.0) == 30, "prefers, does not forbid"
    floor = (*CHECKPOINTS[:2], CheckpointView(30, loss_scale=0.5))
    assert choose_return(floor, (), 40, 1.0) == 20
    poisoned = (CheckpointView(10), *(replace(c, poisoned=True) for c in CHECKPOINTS[1:]))
    assert choose_return(poisoned, (), 40, 1.0) == 10
    assert choose_return(CHECKPOINTS, (), 30, 1.0) == 20, "only what was saved before the trigger"
    assert choose_return((), (), 30, 1.0) is None


def test_every_act_says_before_and_after() -> None:
    policy = POLICY.model_copy(update={"actions": tuple(ACTS), "skip_steps": 100})
    act = intervene(Trigger("LossSpike", 35, "loss 9"), policy, VALUES, CHECKPOINTS, (), ())
    assert isinstance(act, Intervention)
    assert act.to_step == 30
    assert act.values == RunningValues(
        learning_rate=2e-4 * 0.9, clip=0.3, skip_batches=(BatchRange(first=35, last=134),)
    )
    assert [(c.field, c.before, c.after) for c in act.changes] == [
        ("optimisation.learningRate", "0.0002", "0.00018"),
        ("optimisation.clip", "1.0", "0.3"),
        ("data.skipBatches", "none", "35-134"),
    ]


def test_the_policy_has_an_end() -> None:
    trigger, policy = Trigger("LossSpike", 3000, "loss 9"), DivergencePolicy(max_interventions=2, window_steps=1000)
    assert isinstance(intervene(trigger, policy, VALUES, CHECKPOINTS, (), (100, 2500)), Intervention)
    end = intervene(trigger, policy, VALUES, CHECKPOINTS, (), (2100, 2500))
    assert isinstance(end, GiveUp)
    assert "2 interventions within 1000 steps" in end.evidence[1]


@pytest.mark.parametrize(
    ("first", "again", "hardware"),
    [(1.0, 1.0, False), (1.0, 1.0000001, True), (math.nan, math.nan, False), (math.nan, 2.0, True), (None, 2.0, True)],
)
def test_another_result_of_the_same_step_is_a_machines_fault(first: float | None, again: float, hardware: bool) -> None:
    assert judge_rerun(first, again) == hardware


def test_a_scale_at_its_floor_that_overflows_again_is_a_trigger() -> None:
    watch, trigger = observe(watched(), Reading(20, 3.0, None, 4.0), POLICY)
    assert trigger is None
    watch, trigger = observe(watch, Reading(21, 3.0, None, 2.0), POLICY)
    assert trigger is None, "it was halved: that is how it works"
    _, trigger = observe(watch, Reading(22, 3.0, None, 2.0), POLICY)
    assert trigger.cause == "LossScaleFloor"
    assert "at its floor" in trigger.evidence
