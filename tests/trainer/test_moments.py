"""AdamW's memory: zeros that cost nothing until they are used, and nobody else's."""

from __future__ import annotations

import os

import pytest
import torch

from opt_trainer.parallelism.build import build
from opt_trainer.recipe.moments import Moments
from support.plans import tiny_plan

pytestmark = pytest.mark.unit


def test_moments_begin_as_zeros_in_the_shapes_of_the_parts() -> None:
    found, shapes = _moments()
    for moments in (found.first, found.second):
        assert [moment.shape for moment in moments] == shapes
        assert not any(moment.count_nonzero() for moment in moments)
        assert all(moment.is_contiguous() and moment.data_ptr() % 64 == 0 for moment in moments)


def test_moments_do_not_share_a_byte() -> None:
    found, _ = _moments()
    moments = [*found.first, *found.second]
    for number, moment in enumerate(moments, start=1):
        moment.fill_(number)
    assert all(torch.all(moment == number) for number, moment in enumerate(moments, start=1))


def test_a_forked_child_does_not_write_into_its_parents_moments() -> None:
    found, _ = _moments()
    pid = os.fork()
    if pid == 0:
        found.first[0].fill_(1.0)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert not found.first[0].count_nonzero()


def _moments() -> tuple[Moments, list[torch.Size]]:
    plan = tiny_plan()
    worker = build(plan, 0)
    return Moments(worker.parts), [part.master.shape for part in worker.parts]
