"""Rates and utilisations follow from what was measured."""

from __future__ import annotations

import json
import math

import pytest

from opt_trainer.telemetry.metrics import costs_of, metrics_of
from support.plans import tiny_plan
from support.records import record

pytestmark = pytest.mark.unit


def metrics(**more):
    return metrics_of(record(**more), costs_of(tiny_plan(), threads=2), {"step": 0.4}, 1000, now=5.0)


def test_utilisation_is_model_flops_over_the_peak_of_the_gang():
    plan, made = tiny_plan(), metrics()
    assert made.tokens_per_second == 128
    wanted = 128 * plan.architecture.model_flops_per_token(16) / (2 * 80e9)
    assert made.model_flops_utilisation == pytest.approx(wanted)
    assert made.hardware_flops_utilisation == pytest.approx(wanted)


def test_recomputation_counts_for_the_hardware_only():
    plan = tiny_plan()
    layout = plan.layout.model_copy(update={"activation_checkpointing": "full", "hosts": 2})
    costs = costs_of(plan.model_copy(update={"layout": layout}), threads=1)
    assert costs.hardware / costs.model == pytest.approx(4 / 3, rel=1e-3)
    assert costs.peak == 160e9


def test_a_format_without_peak_has_no_utilisation():
    plan = tiny_plan()
    plan = plan.model_copy(update={"precision": plan.precision.model_copy(update={"compute": "float16"})})
    assert metrics_of(record(), costs_of(plan, 1), {}, 0, 0.0).model_flops_utilisation is None


def test_a_skipped_batch_has_no_rate():
    made = metrics(step_tokens=0)
    assert made.skipped
    assert made.tokens_per_second == 0


def test_what_is_not_finite_is_no_number_in_json():
    made = metrics(loss=math.nan, gradient_norm=math.inf).finite()
    assert made["loss"] is None
    assert made["gradient_norm"] is None
    json.dumps(made, allow_nan=False)
