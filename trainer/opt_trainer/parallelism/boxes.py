"""Which part of each tensor a worker holds, by arithmetic alone.

Tensor parallelism divides a tensor evenly along the dimension that `opt_model.divided_dimension` names; sharding then
cuts what is left into chunks of rows, as `torch.chunk` does: all of one size, the last ones smaller or empty.
"""

from __future__ import annotations

from dataclasses import dataclass

from opt_model.partition import divided_dimension
from opt_trainer.parallelism.place import Place


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a tensor.

    Attributes:
        offset: Where it begins in the whole tensor.
        shape: Its own shape; a dimension may be 0.
        copies: How many workers of the gang hold this part.
        owner: Whether this worker is the first of them.
    """

    offset: tuple[int, ...]
    shape: tuple[int, ...]
    copies: int
    owner: bool


def box_of(name: str, whole: tuple[int, ...], place: Place) -> Box:
    """The part of the parameter `name`, of shape `whole`, that a worker holds."""
    offset, shape = [0] * len(whole), list(whole)
    divided = divided_dimension(name) if place.tensor > 1 else None
    if divided is not None:
        shape[divided] = whole[divided] // place.tensor
        offset[divided] = place.tensor_rank * shape[divided]
    rows = -(-shape[0] // place.shard)
    first = min(place.shard_rank * rows, shape[0])
    shape[0] = min(rows, shape[0] - first)
    offset[0] += first
    alike = 1 if divided is not None else place.tensor
    owner = place.replica == 0 and (divided is not None or place.tensor_rank == 0)
    return Box(tuple(offset), tuple(shape), place.replicate * alike, owner)
