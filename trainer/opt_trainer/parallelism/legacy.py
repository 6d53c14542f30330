"""Engine `fairscale`: its tensor-parallel layers in place of ours, with the same names, shapes and results.

Only the layers: fairscale's own FSDP needs CUDA streams and torch 1.11. Groups that fairscale would make for itself are
set to those of the gang's mesh, so that both engines lay out the ranks alike.
"""

from __future__ import annotations

from typing import Any

import torch
from fairscale.nn.model_parallel import initialize as groups
from fairscale.nn.model_parallel.layers import ColumnParallelLinear, RowParallelLinear, VocabParallelEmbedding
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from opt_api.architecture import Architecture
from opt_model.opt import OPT
from opt_model.tensor_parallel import mark_divided

_COLUMN = ("self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "fc1")
_ROW = ("self_attn.out_proj", "fc2")


def divide(model: OPT, mesh: DeviceMesh) -> None:
    """Replace the layers that tensor parallelism divides, in place; their weights are not yet set."""
    groups._MODEL_PARALLEL_GROUP = mesh.get_group()
    shape: Architecture = model.shape
    model.embed_tokens = VocabParallelEmbedding(shape.vocabulary_size, shape.embedding_size, init_method=_unset)
    for block in model.layers:
        for name in (*_COLUMN, *_ROW):
            old = block.get_submodule(name)
            assert isinstance(old, nn.Linear)
            block.set_submodule(name, _column(old) if name in _COLUMN else _row(old))
    mark_divided(model, mesh)


def _column(old: nn.Linear) -> Any:
    return ColumnParallelLinear(old.in_features, old.out_features, gather_output=False, init_method=_unset)


def _row(old: nn.Linear) -> Any:
    return RowParallelLinear(old.in_features, old.out_features, input_is_parallel=True, init_method=_unset)


def _unset(weight: Tensor) -> Tensor:
    """Weights come from the seed or from a checkpoint afterwards."""
    return torch.zeros_like(weight)
