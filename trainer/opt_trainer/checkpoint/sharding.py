"""From torch's sharded tensors to boxes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from opt_trainer.state import LocalTensor


def local_tensor(name: str, tensor: torch.Tensor) -> LocalTensor:
    """This rank's box of a DTensor (sharded, replicated or both), or of a plain tensor that all ranks hold alike.

    The first rank of each set of replicas is the owner. The local storage is aliased: nothing is copied or gathered.

    Raises:
        ValueError: A placement does not leave one contiguous box per rank (partial sums, interleaved shards).
    """
    tensor = tensor.detach()
    if not isinstance(tensor, DTensor):
        first = not dist.is_initialized() or dist.get_rank() == 0
        return LocalTensor(name, tensor, tuple(tensor.shape), (0,) * tensor.dim(), first)
    if any(p.is_partial() for p in tensor.placements):
        raise ValueError(f"tensor {name!r}: placements {tensor.placements} hold partial sums; reduce it first")
    local = tensor.to_local()
    shape, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    if tuple(shape) != tuple(local.shape):
        raise ValueError(f"tensor {name!r}: holds {tuple(local.shape)}, its placements {tensor.placements} say {shape}")
    where = tensor.device_mesh.get_coordinate() or ()
    owner = all(c == 0 for c, p in zip(where, tensor.placements, strict=True) if p.is_replicate())
    return LocalTensor(name, local, tuple(tensor.shape), tuple(offset), owner)
