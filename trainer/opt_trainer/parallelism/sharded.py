"""FSDP2: each block, and what lies outside the blocks, is one group of parameters that is gathered and reduced whole.

The token embedding lies in the outer group, beside nothing that shares it: the head is a function, not a module, so the
tied weight is in one group by construction (accelerate #4171). Gradients are summed, never averaged: gloo has no
average and a custom factor becomes an operation that it rejects (pytorch #162338); the loss carries the division.
"""

from __future__ import annotations

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from opt_model.opt import OPT
from opt_trainer.parallelism.gloo import exchange_straight


def shard(model: OPT, mesh: DeviceMesh, compute: torch.dtype, *, reshard_after_forward: bool) -> None:
    """Shard over the last dimension of a one- or two-dimensional mesh and replicate over the first, in place.

    Weights are kept and gradients reduced in float32, whatever is computed in. The outer group stays gathered from its
    first use to its last, whatever is said of the blocks.
    """
    policy = MixedPrecisionPolicy(param_dtype=None if compute == torch.float32 else compute, reduce_dtype=torch.float32)
    for part in (*model.layers, model):
        again = reshard_after_forward and part is not model
        group = fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=again)
        _sum_gradients(group)
        if mesh.device_type == "cpu":
            exchange_straight(group)


def _sum_gradients(part: FSDPModule) -> None:
    part.set_force_sum_reduction_for_comms(True)
    part.set_gradient_divide_factor(1.0)
