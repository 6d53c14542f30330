"""From a plan to this worker's part of the model: meta device, divide, shard, and only then memory and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from opt_api.architecture import Architecture
from opt_api.documents.plan import Plan
from opt_api.training.parallelism import ActivationCheckpointing, NumberFormat
from opt_model.block import Block
from opt_model.chunk_loss import Fused
from opt_model.exchange.names import shapes_of
from opt_model.initial import fill
from opt_model.linear import widens
from opt_model.opt import OPT
from opt_model.tensor_parallel import divide
from opt_trainer.parallelism.boxes import Box, box_of
from opt_trainer.parallelism.place import REPLICATE, SHARD, TENSOR, Place, mesh_of
from opt_trainer.parallelism.sharded import shard

DTYPES: dict[NumberFormat, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_RECOMPUTED_EVERY: dict[ActivationCheckpointing, int | None] = {"none": None, "selective": 2, "full": 1}
"""Every block, every second one, or none."""
_OUTLINES: dict[Architecture, OPT] = {}
"""Models without memory that were made ahead, each for the next `build` of its shape here or in a forked child."""


@dataclass(frozen=True, slots=True)
class Part:
    """One parameter as this worker holds it.

    Attributes:
        name: In the model.
        parameter: What the model computes with, and what autograd gives a gradient to.
        master: The values that are here in float32, which the optimiser changes; shares the parameter's memory where
            that is float32 too.
        whole: Shape of the whole tensor.
        box: Which part of it is here.
    """

    name: str
    parameter: nn.Parameter
    master: Tensor
    whole: tuple[int, ...]
    box: Box


@dataclass(frozen=True, slots=True)
class WorkerModel:
    """A model divided over the gang.

    Attributes:
        model: To call.
        parts: Every parameter, in the model's order.
        place: Of this worker.
        mesh: Of the gang; None for one worker alone.
        sharded: Whether FSDP casts to the compute format, gathers and reduces by itself.
    """

    model: OPT
    parts: tuple[Part, ...]
    place: Place
    mesh: DeviceMesh | None
    sharded: bool

    def publish(self) -> None:
        """Copy the masters into the parameters that the model computes with, where these are not the same memory."""
        apart = [part for part in self.parts if part.parameter.dtype != part.master.dtype]
        if apart:
            with torch.no_grad():
                torch._foreach_copy_([local_of(part.parameter.detach()) for part in apart], [p.master for p in apart])


def local_of(tensor: Tensor) -> Tensor:
    """The local values of a tensor that may be distributed."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def build(plan: Plan, rank: int) -> WorkerModel:
    """The model of one worker, its values not yet set; the process group, if there are several, must be up."""
    place = Place.of(plan.layout, rank)
    mesh = mesh_of(place, plan.layout.device)
    model = _OUTLINES.pop(plan.architecture, None) or _outline(plan)
    if mesh is not None and place.tensor > 1:
        _divider(plan)(model, mesh[TENSOR])
    _recompute(model, plan.layout.activation_checkpointing)
    if plan.layout.compile:
        _compile(model, in_place=plan.layout.device == "cpu" and plan.precision.compute == "float32")
    sharded = place.data_parallel > 1 and (place.shard > 1 or place.tensor > 1)
    compute = DTYPES[plan.precision.compute]
    if sharded:
        assert mesh is not None
        among = mesh[REPLICATE, SHARD] if place.replicate > 1 else mesh[SHARD]
        shard(model, among, compute, reshard_after_forward=plan.layout.gathers_again)
    else:
        _set_format(model, plan, compute)
    model.to_empty(device=plan.layout.device)
    return WorkerModel(model.train(), _parts(model, place), place, mesh, sharded)


def outline_ahead(plan: Plan) -> None:
    """Make the model's modules now, so that the next `build` of this plan's shape only has to give them memory."""
    _OUTLINES[plan.architecture] = _outline(plan)


def _outline(plan: Plan) -> OPT:
    with torch.device("meta"):
        return OPT(plan.architecture)


def initial_values(worker: WorkerModel, seed: int) -> None:
    """Set every local part to its part of the initial weights."""
    for part in worker.parts:
        fill(part.master, part.name, part.whole, part.box.offset, worker.model.shape, seed)
    worker.publish()


def _set_format(model: OPT, plan: Plan, compute: torch.dtype) -> None:
    """Compute on weights in the compute format, or on the masters themselves where products are widened anyway."""
    if compute == torch.bfloat16 and plan.layout.device == "cpu" and plan.layout.engine == "native" and widens():
        model.activations = compute
    else:
        model.to(compute)


def _divider(plan: Plan) -> Callable[[OPT, DeviceMesh], None]:
    if plan.layout.engine == "native":
        return divide
    from opt_trainer.parallelism import legacy  # noqa: PLC0415 - an engine that is seldom used, and slow to import

    return legacy.divide


def _recompute(model: OPT, how: ActivationCheckpointing) -> None:
    every = _RECOMPUTED_EVERY[how]
    for number, block in enumerate(_blocks(model)):
        block.recompute = every is not None and number % every == 0


def _compile(model: OPT, *, in_place: bool) -> None:
    """Compile each block, and the loss of a chunk unless it is as fast `in_place`, which saves a chunk of float32."""
    model.fused_loss = None if in_place else Fused()
    for block in _blocks(model):
        block.body = torch.compile(block.body)


def _blocks(model: OPT) -> list[Block]:
    return [block for block in model.layers if isinstance(block, Block)]


def _parts(model: OPT, place: Place) -> tuple[Part, ...]:
    parameters = dict(model.named_parameters())
    whole = shapes_of(model.shape)
    assert list(parameters) == list(whole), "the model's parameters are those of its architecture"
    return tuple(_part(name, parameters[name], whole[name], place) for name in whole)


def _part(name: str, parameter: nn.Parameter, whole: tuple[int, ...], place: Place) -> Part:
    local, box = local_of(parameter.detach()), box_of(name, whole, place)
    assert tuple(local.shape) == box.shape, f"{name}: {tuple(local.shape)} is not {box}"
    return Part(name, parameter, local.float(), whole, box)
