"""One step of a tiny model, among peers that are only pretended, in the process that workers are forked from.

Whatever torch imports, registers or remembers on the first use of a layout is then there in every worker. Nothing here
starts a thread or touches a CUDA device, neither of which survives a fork.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from opt_api.documents.plan import Plan
from opt_trainer.data.order import DataOrder
from opt_trainer.loop.agreement import Flags, agree
from opt_trainer.loop.step import TrainStep
from opt_trainer.loop.tensors import saved_tensors
from opt_trainer.parallelism.build import build, initial_values, outline_ahead
from opt_trainer.recipe.optimiser import optimiser_of
from opt_trainer.recipe.schedule import learning_rate

TINY_LENGTH = 8


def rehearse(plan: Plan) -> None:
    """Build, compute, agree, update, once, with the plan's layout, number format and recipe.

    And touch the data, and outline the whole model.
    """
    _touch_data()
    small = _small(plan)
    with _pretended_gang(small.layout.world_size):
        worker = build(small, 0)
        initial_values(worker, small.recipe.seed)
        optimiser = optimiser_of(worker, small)
        saved_tensors(worker, optimiser)
        train = TrainStep(small, worker, optimiser)
        rows = torch.zeros(len(small.share(0)), TINY_LENGTH + 1, dtype=torch.int64)
        found = train.compute(1, rows, 1.0)
        agree(found, Flags(), alone=small.layout.world_size == 1)
        train.update(learning_rate(small, 1, small.recipe.peak_learning_rate), 1.0, small.recipe.clip, 1.0)
    outline_ahead(plan)


def _touch_data() -> None:
    """Permute, and leave Arrow once: its first array of NumPy's imports pandas, where that is installed."""
    DataOrder(2, 1, 0).blocks(1)
    pa.array([0], pa.uint16()).to_numpy()


def _small(plan: Plan) -> Plan:
    """The same in little: two blocks of the same heads, on the CPU, without compiling."""
    a, layout = plan.architecture, plan.layout
    width = a.heads * 2 * layout.tensor_parallel
    sizes = {
        "layers": 2,
        "hidden_size": width,
        "ffn_size": 2 * width,
        "embedding_size": 2 * width if a.has_projections else width,
        "vocabulary_size": 16 * layout.world_size,
        "max_positions": 2 * TINY_LENGTH,
    }
    little = a.model_copy(update=sizes)
    return plan.model_copy(
        update={
            "architecture": little,
            "sequence_length": TINY_LENGTH,
            "layout": layout.model_copy(update={"device": "cpu", "compile": False}),
        }
    )


@contextmanager
def _pretended_gang(world_size: int) -> Iterator[None]:
    if world_size == 1:
        yield
        return
    dist.init_process_group("fake", rank=0, world_size=world_size, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()
