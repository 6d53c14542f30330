"""Import of the layout that OPT was trained in: fused key, value and query rows, one file per tensor-parallel rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opt_api.architecture import Architecture
from opt_model.exchange.names import shapes_of
from opt_model.partition import divided_dimension

_RENAMED = {"layer_norm.": "final_layer_norm.", "project_in_dim.": "project_in.", "project_out_dim.": "project_out."}
_DROPPED = ("output_projection.weight", "version", "embed_positions._float_tensor")
_FUSED = ".qkv_proj."


def read_original(files: Sequence[Path], shape: Architecture) -> dict[str, Tensor]:
    """Read consolidated checkpoint files, one per tensor-parallel rank, in the order of the ranks.

    Only tensors are unpickled (`weights_only`).

    Raises:
        ValueError: The parts do not make up this architecture.
    """
    parts = [torch.load(file, map_location="cpu", weights_only=True, mmap=True) for file in files]
    return unfuse([part.get("model", part) for part in parts], shape)


def unfuse(parts: Sequence[Mapping[str, Any]], shape: Architecture) -> dict[str, Tensor]:
    """Make whole tensors under our names from the state of each tensor-parallel rank.

    A rank's fused rows are its own share of K, then of V, then of Q, so they are parted before ranks are joined.

    Raises:
        ValueError: A tensor is missing, unknown or of another shape.
    """
    split = [_renamed(part) for part in parts]
    for name in set().union(*split):
        if not all(name in part for part in split):
            raise ValueError(
                f"original checkpoint: tensor {name} is not in every rank's file; give all files of one step"
            )
    whole = {name: _join(name, [part[name] for part in split]) for name in split[0]}
    _check(whole, shapes_of(shape))
    return whole


def _renamed(part: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for stored, tensor in part.items():
        name = stored.removeprefix("decoder.")
        if name in _DROPPED:
            continue
        if _FUSED in name:
            pieces = zip(("k_proj", "v_proj", "q_proj"), tensor.chunk(3), strict=True)
            tensors |= {name.replace("qkv_proj", proj): rows for proj, rows in pieces}
            continue
        old = next((old for old in _RENAMED if name.startswith(old)), None)
        tensors[_RENAMED[old] + name.removeprefix(old) if old else name] = tensor
    return tensors


def _join(name: str, pieces: list[Tensor]) -> Tensor:
    dimension = divided_dimension(name)
    return pieces[0] if dimension is None else torch.cat(pieces, dim=dimension)


def _check(whole: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    if set(whole) != set(wanted):
        raise ValueError(
            f"original checkpoint: {len(whole)} tensors found, the architecture has {len(wanted)}; "
            f"missing {sorted(set(wanted) - set(whole))[:3]}, unknown {sorted(set(whole) - set(wanted))[:3]}"
        )
    for name, size in wanted.items():
        if tuple(whole[name].shape) != size:
            raise ValueError(f"original checkpoint: {name} has shape {tuple(whole[name].shape)}, expected {size}")
