"""What is done ahead in the process that workers are forked from."""

from __future__ import annotations

import pytest
import torch

from opt_trainer.parallelism.build import build, initial_values, outline_ahead
from opt_trainer.program.rehearsal import rehearse
from support.plans import tiny_plan

pytestmark = pytest.mark.unit


def test_a_model_outlined_ahead_is_used_once_and_is_the_same_model() -> None:
    plan = tiny_plan()
    usual = build(plan, 0)
    outline_ahead(plan)
    ahead, after = build(plan, 0), build(plan, 0)
    assert len({id(worker.model) for worker in (usual, ahead, after)}) == 3
    for worker in (usual, ahead, after):
        initial_values(worker, seed=1)
    for part, same in zip(usual.parts, ahead.parts, strict=True):
        assert (part.name, part.whole, part.box) == (same.name, same.whole, same.box)
        assert torch.equal(part.master, same.master)
    assert ahead.model.training


def test_a_rehearsal_leaves_an_outline_of_the_whole_model() -> None:
    plan = tiny_plan()
    rehearse(plan)
    worker = build(plan, 0)
    assert sum(part.master.numel() for part in worker.parts) == plan.architecture.parameters()
    assert all(not part.master.is_meta for part in worker.parts)
