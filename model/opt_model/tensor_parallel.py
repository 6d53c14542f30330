"""Tensor parallelism by DTensor: each layer's matrices divided over the ranks of a group, heads kept whole.

Column-parallel layers first, row-parallel layers after, one sum over the group in each half of a block (Megatron-LM,
arXiv 1909.08053, section 3). The residual stream, and what dropout does to it, is the same on every rank.
"""

from __future__ import annotations

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module
from torch.distributed.tensor.placement_types import Replicate

from opt_model.block import Block
from opt_model.opt import OPT


def divide(model: OPT, mesh: DeviceMesh) -> None:
    """Make the weights of the table in `partition` DTensors over a one-dimensional mesh, in place."""
    parallelize_module(model, mesh, {"embed_tokens": RowwiseParallel(input_layouts=Replicate())})
    for block in model.layers:
        parallelize_module(block, mesh, _styles())
    mark_divided(model, mesh)


def mark_divided(model: OPT, mesh: DeviceMesh) -> None:
    """Tell the parts that look at their place in the group: the head, and dropout of the heads."""
    model.vocabulary_group = mesh.get_group()
    for block in model.layers:
        assert isinstance(block, Block)
        block.self_attn.heads_divided = mesh.size() > 1
        block.self_attn.head_rank = mesh.get_local_rank()


def _styles() -> dict[str, ParallelStyle]:
    return {
        "self_attn.k_proj": ColwiseParallel(),
        "self_attn.v_proj": ColwiseParallel(),
        "self_attn.q_proj": ColwiseParallel(),
        "self_attn.out_proj": RowwiseParallel(),
        "fc1": ColwiseParallel(),
        "fc2": RowwiseParallel(),
    }
