"""How one gang of workers divides the model and the batch, and in which number format it computes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from opt_api.base import Model, Rule, changes
from opt_api.training.optimisation import LossScale
from opt_api.types import Count

ActivationCheckpointing = Literal["none", "selective", "full"]
Engine = Literal["native", "fairscale"]
Device = Literal["cuda", "cpu"]
DeviceModel = Literal["cpu", "v100-32gb", "a100-40gb", "a100-80gb", "h100-80gb", "h200-141gb", "b200-192gb"]
NumberFormat = Literal["float32", "bfloat16", "float16"]


class ParallelismSpec(Model):
    """The layout of one gang. The data order does not depend on it, so it may change between attempts."""

    hosts: Annotated[Count, Field(le=16384)] = changes("attempt", default=1)
    """Hosts of a full gang."""
    devices_per_host: Annotated[Count, Field(le=64)] = changes("attempt", default=1)
    """Workers per host: one per GPU, or CPU processes."""
    device: Device = changes("attempt", default="cuda")
    device_model: DeviceModel | None = changes("attempt", default=None)
    """The chip, for memory, time and energy estimates; a100-80gb (or cpu) when absent."""
    tensor_parallel: Annotated[Count, Field(le=64)] | None = changes("attempt", default=None)
    """Workers that share one copy of each layer; 1 when absent."""
    shard: Annotated[Count, Field(le=1_048_576)] | None = changes("attempt", default=None)
    """Workers that share one copy of weights and optimizer state by FSDP; all when absent."""
    activation_checkpointing: ActivationCheckpointing = changes("attempt", default="none")
    """Blocks computed anew in the backward pass: `selective` is every second, `full` is all."""
    reshard_after_forward: bool = changes("attempt", default=True)
    """Gather a block's weights again for the backward pass; false keeps those of all blocks in memory."""
    compile: bool = changes("attempt", default=False)
    """Compile each block."""
    engine: Engine = changes("attempt", default="native")
    """`native` is torch FSDP2 and DTensor; `fairscale` takes its tensor-parallel layers."""
    micro_batch_sequences: Annotated[Count, Field(le=4096)] | None = changes("attempt", default=None)
    """Most sequences of a forward pass on one worker; when absent, as many as fit, evened out."""

    rules = (
        Rule(
            "tensorParallel",
            "must divide devicesPerHost, so that tensor parallel stays inside a host",
            "!has(self.tensorParallel) || self.devicesPerHost % self.tensorParallel == 0",
            lambda p: p.tensor_parallel is None or p.devices_per_host % p.tensor_parallel == 0,
        ),
    )


class PrecisionSpec(Model):
    """Number formats. Adam's moments are always float32."""

    compute: NumberFormat = "bfloat16"
    """Weights and activations in forward and backward; OPT used float16 with a dynamic loss scale."""
    loss_scale: LossScale = Field(default_factory=LossScale)
    """Used with float16 only."""
