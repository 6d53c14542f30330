"""Blocks compiled by torch.compile train as they do uncompiled: losses, gradients, weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from opt_api.documents.plan import Plan, PrecisionPlan
from support.gloo import run_gang
from support.layout_run import Run, check_gradients, difference, run_plan, run_plans, whole_tensors
from support.plans import tiny_plan

STEPS = 4
pytestmark = pytest.mark.filterwarnings("default")
"""torch's compiler warns of its own code (deprecated parts, gradients looked at while it traces): shown, not raised."""


def plan_of(workers: int, compute: str = "float32", **layout: Any) -> Plan:
    plan = tiny_plan(parallelism={"devicesPerHost": workers, **layout})
    return plan.model_copy(update={"precision": PrecisionPlan(compute=compute)})  # type: ignore[arg-type]


def compare(found: list[Run], expected: Run, low: bool) -> None:
    assert difference(found[0].losses, expected.losses) < (1e-2 if low else 1e-5)
    check_gradients(whole_tensors([run.gradients for run in found]), whole_tensors([expected.gradients]), low)


@pytest.mark.integration
@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_compiled_blocks_train_alike(compute: str) -> None:
    torch._dynamo.reset()
    plan = plan_of(1, compute, compile=True)
    compare([run_plan(0, plan, STEPS)], run_plan(0, plan_of(1, compute), STEPS), low=compute == "bfloat16")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0, "nothing was compiled"


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_compiled_blocks_train_alike_where_they_are_sharded() -> None:
    plans = [plan_of(2, compile=True), plan_of(2, compile=True, activationCheckpointing="full")]
    runs = run_gang(2, run_plans, [plan.to_bytes() for plan in plans], STEPS)
    for number in range(len(plans)):
        compare([of_rank[number] for of_rank in runs], run_plan(0, plan_of(1), STEPS), low=False)
