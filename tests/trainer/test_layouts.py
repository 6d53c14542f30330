"""Every layout trains as one process does: same losses, same gradients, same weights. Real gloo processes.

Tolerances: float32, 1e-5 in losses and 2e-6 in gradients (largest absolute difference). In bfloat16 and float16 the
layouts differ in where sums are rounded: beside one process in the same format losses agree within 1e-2 (of 4.6 nats)
and each gradient within 5 % of its norm and 0.3 % of the norm of all; losses agree with float32's within 2e-2.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from opt_api.documents.plan import Plan, PrecisionPlan
from opt_api.training.optimisation import LossScale
from opt_model.exchange.names import shapes_of
from support.gloo import run_gang
from support.layout_run import (
    Run,
    check_gradients,
    difference,
    gathered_after_forward,
    groups_of,
    heads_of,
    run_plan,
    run_plans,
    whole_tensors,
)
from support.plans import tiny_plan

STEPS = 6
POST = {"normPosition": "post", "embeddingSize": 16}
ONCE = {"reshardAfterForward": False}
RESIDUAL = {"dropout": 0.3}
"""Dropout of the residual stream, which all ranks of a tensor-parallel group draw alike, as one process does."""


def plan_of(
    workers: int, compute: str = "float32", model: dict[str, Any] | None = None, batch: int = 8, **layout: Any
) -> Plan:
    plan = tiny_plan(
        model=model or {},
        parallelism={"devicesPerHost": workers, **layout},
        optimisation={"batchTokens": batch * 16, "totalTokens": 100 * batch * 16},
    )
    if compute == "float32":
        return plan
    scale = LossScale(initial=1024.0) if compute == "float16" else None
    return plan.model_copy(update={"precision": PrecisionPlan(compute=compute, loss_scale=scale)})  # type: ignore[arg-type]


CASES: dict[int, dict[str, Plan]] = {
    1: {
        "four passes": plan_of(1, microBatchSequences=2),
        "recompute full": plan_of(1, activationCheckpointing="full"),
        "recompute selective": plan_of(1, activationCheckpointing="selective"),
        "bf16": plan_of(1, "bfloat16"),
        "bf16 four passes": plan_of(1, "bfloat16", microBatchSequences=2),
        "fp16": plan_of(1, "float16"),
    },
    2: {
        "fsdp": plan_of(2),
        "fsdp two passes": plan_of(2, microBatchSequences=2),
        "fsdp recompute full": plan_of(2, activationCheckpointing="full"),
        "fsdp gathered once": plan_of(2, **ONCE),
        "fsdp gathered once, two passes, recompute full": plan_of(
            2, **ONCE, microBatchSequences=2, activationCheckpointing="full"
        ),
        "fsdp gathered once bf16": plan_of(2, "bfloat16", **ONCE),
        "fsdp post-norm": plan_of(2, model=POST),
        "fsdp bf16": plan_of(2, "bfloat16"),
        "fsdp fp16": plan_of(2, "float16"),
        "replicate": plan_of(2, shard=1),
        "replicate two passes": plan_of(2, shard=1, microBatchSequences=2),
        "replicate uneven, an empty pass": plan_of(2, shard=1, batch=7, microBatchSequences=1),
        "replicate bf16": plan_of(2, "bfloat16", shard=1),
        "replicate fp16": plan_of(2, "float16", shard=1),
        "tensor": plan_of(2, tensorParallel=2),
        "tensor post-norm": plan_of(2, tensorParallel=2, model=POST),
        "tensor bf16": plan_of(2, "bfloat16", tensorParallel=2),
        "tensor fp16": plan_of(2, "float16", tensorParallel=2),
        "tensor dropout": plan_of(2, tensorParallel=2, model=RESIDUAL),
        "tensor dropout post-norm": plan_of(2, tensorParallel=2, model=POST | RESIDUAL),
        "tensor dropout recompute": plan_of(
            2, tensorParallel=2, model=RESIDUAL, activationCheckpointing="full", microBatchSequences=8
        ),
        "fairscale tensor dropout": plan_of(2, tensorParallel=2, engine="fairscale", model=RESIDUAL),
        "tensor recompute": plan_of(2, tensorParallel=2, activationCheckpointing="full"),
        "fairscale tensor": plan_of(2, tensorParallel=2, engine="fairscale"),
        "fairscale tensor post-norm": plan_of(2, tensorParallel=2, engine="fairscale", model=POST),
    },
    4: {
        "fsdp": plan_of(4),
        "hybrid": plan_of(4, shard=2),
        "hybrid bf16": plan_of(4, "bfloat16", shard=2),
        "hybrid gathered once": plan_of(4, shard=2, **ONCE),
        "tensor x fsdp gathered once": plan_of(4, tensorParallel=2, **ONCE),
        "replicate": plan_of(4, shard=1),
        "tensor": plan_of(4, tensorParallel=4),
        "tensor x fsdp": plan_of(4, tensorParallel=2),
        "tensor x fsdp post-norm": plan_of(4, tensorParallel=2, model=POST),
        "tensor x fsdp bf16": plan_of(4, "bfloat16", tensorParallel=2),
        "tensor x fsdp fp16": plan_of(4, "float16", tensorParallel=2),
        "tensor x replicate": plan_of(4, tensorParallel=2, shard=1),
        "fairscale tensor x fsdp": plan_of(4, tensorParallel=2, engine="fairscale"),
        "fsdp uneven, empty passes": plan_of(4, batch=6, microBatchSequences=1),
    },
}


@functools.cache
def alone(batch: int, post: bool, dropout: float, compute: str) -> Run:
    """The reference: one process, one pass."""
    model = (POST if post else {}) | {"dropout": dropout}
    return run_plan(0, plan_of(1, compute, model=model, batch=batch), STEPS)


def reference_of(plan: Plan, compute: str) -> Run:
    shape = plan.architecture
    return alone(plan.recipe.batch_sequences, shape.norm_position == "post", shape.dropout, compute)


def check(plan: Plan, runs: list[Run]) -> None:
    compute = plan.precision.compute
    reference, exact = reference_of(plan, compute), reference_of(plan, "float32")
    low = compute != "float32"
    for run in runs:
        assert run.losses == runs[0].losses, "the workers disagree about the loss"
        assert difference(run.losses, reference.losses) < (1e-2 if low else 1e-5)
        assert difference(run.losses, exact.losses) < (2e-2 if low else 1e-5)
        assert np.allclose(run.norms, reference.norms, rtol=2e-2 if low else 1e-4)
    check_gradients(whole_tensors([run.gradients for run in runs]), whole_tensors([reference.gradients]), low)
    weights, last = whole_tensors([run.weights for run in runs]), whole_tensors([reference.weights])
    apart = {name: difference(tensor, last[name]) for name, tensor in weights.items()}
    assert low or max(apart.values()) < 1e-3, apart


@pytest.mark.integration
@pytest.mark.parametrize("workers", sorted(CASES))
def test_every_layout_trains_as_one_process_does(workers: int) -> None:
    cases = CASES[workers]
    runs = run_gang(workers, run_plans, [plan.to_bytes() for plan in cases.values()], STEPS)
    failed = []
    for number, (name, plan) in enumerate(cases.items()):
        try:
            check(plan, [of_rank[number] for of_rank in runs])
        except AssertionError as problem:
            failed.append(f"{name}: {problem}")
    assert not failed, "\n".join(failed)


@pytest.mark.integration
def test_heads_on_different_ranks_are_dropped_differently_and_the_stream_alike() -> None:
    plan = plan_of(2, tensorParallel=2, model={"attentionDropout": 0.5})
    (first, second) = run_gang(2, heads_of, [plan.to_bytes()])
    assert not np.array_equal(first[0][0], second[0][0])
    assert np.array_equal(first[0][1], second[0][1])


@pytest.mark.integration
@pytest.mark.parametrize("layout", [{}, {"shard": 1, "tensorParallel": 2}, {"shard": 2}], ids=["fsdp", "tp", "hybrid"])
def test_the_tied_weight_is_in_one_group_and_every_reduction_is_a_sum(layout: dict[str, Any]) -> None:
    plan = plan_of(4, **layout)
    for (found,) in run_gang(4, groups_of, [plan.to_bytes()]):
        everywhere = [name for names in found["names"] for name in names]
        assert sorted(everywhere) == sorted(shapes_of(plan.architecture))
        assert len(found["names"]) == plan.architecture.layers + 1
        assert set(found["sums"]) == {(True, 1.0)}


@pytest.mark.integration
def test_blocks_stay_gathered_where_asked_and_the_run_is_the_same_bit_by_bit() -> None:
    plans = [plan_of(2, "bfloat16", **layout).to_bytes() for layout in ({}, ONCE)]
    layers = tiny_plan().architecture.layers
    assert run_gang(2, gathered_after_forward, plans) == [[0, layers]] * 2
    for again, once in run_gang(2, run_plans, plans, STEPS):
        assert (again.losses, again.norms) == (once.losses, once.norms)
        assert all(np.array_equal(mine[3], other[3]) for mine, other in zip(again.weights, once.weights, strict=True))


@pytest.mark.unit
def test_the_loss_falls() -> None:
    run = alone(8, False, 0.0, "float32")
    assert run.losses[-1] < run.losses[0]
