"""What must hold before the first step. Each refusal has the two numbers that disagree."""

from __future__ import annotations

import torch

from opt_api.documents.plan import LayoutPlan, Plan
from opt_api.estimate.memory import memory
from opt_model.memory import memory_total
from opt_trainer.errors import BadHost, BadSpec

GIB = 1 << 30


def check_plan(plan: Plan, world_size: int) -> None:
    """Hold the plan against itself and against the gang.

    Raises:
        BadSpec: Every disagreement, in one message.
        BadHost: The host has fewer devices than the plan counts on.
    """
    if problems := [*_gang(plan.layout, world_size), *_divides(plan)]:
        raise BadSpec("plan: " + "; ".join(problems))
    _check_devices(plan.layout)
    if problems := _memory(plan):
        raise BadSpec("plan: " + "; ".join(problems))


def _gang(layout: LayoutPlan, world_size: int) -> list[str]:
    product = layout.replicate * layout.shard * layout.tensor_parallel
    checks = (
        (
            world_size != layout.world_size,
            f"the gang has {world_size} workers, the layout has {layout.world_size} (hosts x devices); start as many",
        ),
        (
            product != layout.world_size,
            f"replicate x shard x tensorParallel is {product}, hosts x devices {layout.world_size}; they must be equal",
        ),
    )
    return [text for wrong, text in checks if wrong]


def _divides(plan: Plan) -> list[str]:
    tensor, a = plan.layout.tensor_parallel, plan.architecture
    split = {"heads": a.heads, "ffnSize": a.ffn_size, "vocabularySize": a.vocabulary_size}
    problems = [
        f"{name} {number} is not a multiple of tensorParallel {tensor}"
        for name, number in split.items()
        if number % tensor
    ]
    if plan.sequence_length > a.max_positions:
        problems.append(f"sequenceLength {plan.sequence_length} is above the model's maxPositions {a.max_positions}")
    share = -(-plan.recipe.batch_sequences // max(1, plan.layout.data_parallel))
    covered = plan.layout.micro_batch_sequences * plan.layout.accumulation
    if covered < share:
        problems.append(
            f"microBatchSequences x accumulation covers {covered} sequences, a worker's share of the batch is {share}"
        )
    return problems


def _check_devices(layout: LayoutPlan) -> None:
    found, wanted = torch.cuda.device_count(), layout.devices_per_host
    if layout.device == "cuda" and found < wanted:
        raise BadHost(f"this host has {found} CUDA devices, the layout wants {wanted}; use another host, or mend it")


def _memory(plan: Plan) -> list[str]:
    """The estimate against what the device has in all; what other processes hold is theirs to give back."""
    layout = plan.layout
    needed = memory(plan.architecture, layout, plan.precision.compute, plan.sequence_length).total
    if layout.device == "cuda":
        has = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    else:
        has = memory_total() // layout.devices_per_host
    if needed <= has:
        return []
    advice = "recompute activations, make passes smaller, or take more hosts"
    return [f"a worker needs {needed / GIB:.2f} GiB, its device has {has / GIB:.2f} GiB; {advice}"]
