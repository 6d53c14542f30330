"""A few steps of one plan on one worker, for comparing layouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from opt_api.documents.plan import Plan
from opt_model.attention import SelfAttention
from opt_model.randomness import reseed
from opt_trainer.loop.agreement import Flags, Sums, agree
from opt_trainer.loop.step import TrainStep
from opt_trainer.parallelism.build import WorkerModel, build, initial_values
from opt_trainer.recipe.optimiser import optimiser_of
from opt_trainer.recipe.schedule import learning_rate

Boxes = list[tuple[str, tuple[int, ...], tuple[int, ...], np.ndarray[Any, Any]]]


@dataclass
class Run:
    """What a worker saw: losses and norms of every step, its part of the first gradients and of the last weights."""

    losses: list[float]
    norms: list[float]
    gradients: Boxes
    weights: Boxes


def batch_of(plan: Plan, step: int) -> torch.Tensor:
    """The whole batch of a step, the same wherever it is asked for."""
    generator = torch.Generator().manual_seed(step)
    return torch.randint(
        4,
        plan.architecture.vocabulary_size,
        (plan.recipe.batch_sequences, plan.sequence_length + 1),
        generator=generator,
    )


def run_plans(rank: int, plans: list[bytes], steps: int) -> list[Run]:
    """Train each plan for some steps from its initial weights."""
    return [run_plan(rank, Plan.from_bytes(plan), steps) for plan in plans]


def run_plan(rank: int, plan: Plan, steps: int) -> Run:
    worker = build(plan, rank)
    initial_values(worker, plan.recipe.seed)
    train = TrainStep(plan, worker, optimiser_of(worker, plan))
    scale = plan.precision.loss_scale.initial if plan.precision.loss_scale else 1.0
    run = Run([], [], [], [])
    for step in range(1, steps + 1):
        sums = one_step(train, plan, worker, step, scale)
        run.losses.append(sums.loss / worker.place.tensor / plan.tokens_per_step)
        run.norms.append(sums.gradient_square**0.5 / scale)
        if step == 1:
            run.gradients = boxes(worker, [g / scale for g in train._taken])
        train.update(learning_rate(plan, step, plan.recipe.peak_learning_rate), run.norms[-1], plan.recipe.clip, scale)
    run.weights = boxes(worker, [part.master for part in worker.parts])
    return run


def one_step(train: TrainStep, plan: Plan, worker: WorkerModel, step: int, scale: float) -> Sums:
    share = plan.share(worker.place.data_rank)
    measured = train.compute(step, batch_of(plan, step)[share.start : share.stop], scale)
    return agree(measured, Flags(), alone=worker.mesh is None)


def boxes(worker: WorkerModel, tensors: list[torch.Tensor]) -> Boxes:
    return [
        (part.name, part.whole, part.box.offset, tensor.detach().float().cpu().numpy().copy())
        for part, tensor in zip(worker.parts, tensors, strict=True)
    ]


def whole_tensors(runs: list[Boxes]) -> dict[str, np.ndarray[Any, Any]]:
    """Join the parts of all workers; parts that several hold must be equal bit by bit."""
    joined: dict[str, np.ndarray[Any, Any]] = {}
    for name, whole, offset, values in (box for boxes_of_rank in runs for box in boxes_of_rank):
        target = joined.setdefault(name, np.full(whole, np.nan, dtype=np.float32))
        where = tuple(slice(o, o + n) for o, n in zip(offset, values.shape, strict=True))
        held = ~np.isnan(target[where])
        assert np.array_equal(target[where][held], values[held]), f"{name}: replicas differ"
        target[where] = values
    assert not any(np.isnan(tensor).any() for tensor in joined.values()), "a part of a tensor is on no worker"
    return joined


def check_gradients(found: dict[str, Any], expected: dict[str, Any], low: bool) -> None:
    """Every gradient is the expected one; `low` allows for sums in fewer than 32 bits."""
    everything = sum(float(np.square(tensor).sum()) for tensor in expected.values()) ** 0.5
    for name, tensor in found.items():
        apart = float(np.linalg.norm(tensor - expected[name]))
        allowed = 0.05 * float(np.linalg.norm(expected[name])) + 5e-3 * everything
        assert apart <= allowed, f"gradient of {name}: {apart} apart, {allowed} allowed"
        assert low or difference(tensor, expected[name]) < 2e-6, name


def difference(first: Any, second: Any) -> float:
    """Largest of any element."""
    return float(np.abs(np.subtract(first, second)).max())


def heads_of(rank: int, plans: list[bytes]) -> list[tuple[Any, Any]]:
    """What attention's dropout leaves of ones on this rank, and what the residual stream draws after it."""
    found = []
    for plan in map(Plan.from_bytes, plans):
        attention = build(plan, rank).model.layers[0].self_attn
        assert isinstance(attention, SelfAttention)
        reseed(1)
        ones = torch.ones(1, 2, 16, 8)
        found.append((attention._attend(ones, ones, ones).detach().numpy(), torch.rand(4).numpy()))
    return found


def groups_of(rank: int, plans: list[bytes]) -> list[dict[str, Any]]:
    """How FSDP holds the model: which group each parameter is in, and how gradients are reduced."""
    found = []
    for plan in map(Plan.from_bytes, plans):
        model = build(plan, rank).model
        modules = [module for module in model.modules() if isinstance(module, FSDPModule)]
        groups = [group for module in modules for group in module._get_fsdp_state()._fsdp_param_groups]
        of_module = {id(module): name for name, module in model.named_modules()}
        names = [
            [f"{of_module[id(held.module)]}.{held.param_name}" for held in (p._module_info for p in group.fsdp_params)]
            for group in groups
        ]
        sums = [(group.force_sum_reduction_for_comms, group.gradient_divide_factor) for group in groups]
        found.append({"names": names, "sums": sums})
    return found


def gathered_after_forward(rank: int, plans: list[bytes]) -> list[int]:
    """How many blocks have their whole weights after a forward pass."""
    found = []
    for plan in map(Plan.from_bytes, plans):
        worker = build(plan, rank)
        initial_values(worker, plan.recipe.seed)
        rows = batch_of(plan, 1)
        worker.model(rows[:, :-1], rows[:, 1:])
        weights = [next(block.parameters()) for block in worker.model.layers]
        found.append(sum(not isinstance(weight, DTensor) for weight in weights))
    return found
