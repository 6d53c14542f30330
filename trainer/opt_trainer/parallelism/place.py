"""Where a worker stands in its gang: world = replicate x shard x tensor, tensor innermost."""

from __future__ import annotations

from dataclasses import dataclass

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from opt_api.documents.plan import LayoutPlan

REPLICATE, SHARD, TENSOR = "replicate", "shard", "tensor"


@dataclass(frozen=True, slots=True)
class Place:
    """One worker's coordinates.

    Attributes:
        rank: Of the gang's world.
        replicate, shard, tensor: Sizes of the three dimensions.
    """

    rank: int
    replicate: int
    shard: int
    tensor: int

    @classmethod
    def of(cls, layout: LayoutPlan, rank: int) -> Place:
        """The place of a rank in a layout."""
        return cls(rank, layout.replicate, layout.shard, layout.tensor_parallel)

    @property
    def world_size(self) -> int:
        """Workers of the gang."""
        return self.replicate * self.shard * self.tensor

    @property
    def data_parallel(self) -> int:
        """Workers that see different sequences."""
        return self.replicate * self.shard

    @property
    def data_rank(self) -> int:
        """Which share of the batch this worker computes; the same for all of its tensor-parallel group."""
        return self.rank // self.tensor

    @property
    def tensor_rank(self) -> int:
        """Place in the tensor-parallel group."""
        return self.rank % self.tensor

    @property
    def shard_rank(self) -> int:
        """Place among the workers that share one copy of the state."""
        return self.data_rank % self.shard

    @property
    def replica(self) -> int:
        """Which copy of the state this worker's share belongs to."""
        return self.data_rank // self.shard


def mesh_of(place: Place, device: str) -> DeviceMesh | None:
    """The gang's mesh with all three dimensions; None for one worker alone."""
    if place.world_size == 1:
        return None
    sizes = (place.replicate, place.shard, place.tensor)
    return init_device_mesh(device, sizes, mesh_dim_names=(REPLICATE, SHARD, TENSOR))
