"""Which layouts fit, and the nearest that does when the wanted one does not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from opt_api.architecture import Architecture
from opt_api.documents.plan import LayoutPlan, Plan
from opt_api.estimate.devices import device_memory
from opt_api.estimate.memory import MASTER, MOMENTS, OVERHEAD, MemoryEstimate, ceil_div, memory, worker_parameters
from opt_api.quantity import binary_quantity, bytes_of
from opt_api.training.parallelism import ActivationCheckpointing, DeviceModel, NumberFormat, ParallelismSpec

AGENT_BYTES = OVERHEAD["cpu"]
"""Assumed: the agent that stands beside the workers of a host is one more Python process."""


@dataclass(frozen=True)
class Case:
    """Everything but the layout that decides whether a layout fits."""

    architecture: Architecture
    compute: NumberFormat
    sequence_length: int
    batch_sequences: int
    pod_memory: str
    memory_tier: bool


def case_of(plan: Plan, pod_memory: str) -> Case:
    """The case of a finished plan."""
    return Case(
        plan.architecture,
        plan.precision.compute,
        plan.sequence_length,
        plan.recipe.batch_sequences,
        pod_memory,
        plan.checkpointing.memory_tier,
    )


@dataclass(frozen=True)
class Fit:
    """A layout with what it needs and what it has, in bytes per device."""

    layout: LayoutPlan
    needed: MemoryEstimate
    available: int

    @property
    def fits(self) -> bool:
        """Whether the device has room."""
        return self.needed.total <= self.available


@dataclass(frozen=True)
class Near:
    """A layout that fits: the fields to change, as (path, before, after), and what it then needs."""

    changes: tuple[tuple[str, str, str], ...]
    fit: Fit

    def __str__(self) -> str:
        return ", ".join(f"{path}: {after} (now {before})" for path, before, after in self.changes)


@dataclass(frozen=True)
class Option:
    """A field of the layout and the values it could take instead."""

    field: str
    values: list[object]


def device_model(p: ParallelismSpec) -> DeviceModel:
    """The chip that estimates are made for."""
    return p.device_model or ("cpu" if p.device == "cpu" else "a100-80gb")


def divides(p: ParallelismSpec, case: Case) -> bool:
    """Whether the layout's numbers go into each other and into the model's and the batch's."""
    tensor, world, a = p.tensor_parallel or 1, p.hosts * p.devices_per_host, case.architecture
    if p.devices_per_host % tensor or any(n % tensor for n in (a.heads, a.ffn_size, a.vocabulary_size)):
        return False
    return world % ((p.shard or 1) * tensor) == 0 and world // tensor <= case.batch_sequences


def lay_out(p: ParallelismSpec, case: Case) -> Fit:
    """The layout with the fewest forward passes per step that fits; with one sequence per pass if none does.

    Passes are evened out: a share of 9 sequences on a device with room for 5 becomes 5 + 4.
    """
    data = p.hosts * p.devices_per_host // (p.tensor_parallel or 1)
    largest_share = ceil_div(case.batch_sequences, data)
    if p.micro_batch_sequences is not None:
        return _fit(p, case, p.micro_batch_sequences)
    return next(
        fit
        for micro in _micro_batches(largest_share)
        if (fit := _fit(p, case, micro)).fits or micro == 1
    )  # fmt: skip


def _micro_batches(share: int) -> Iterator[int]:
    """Distinct pass sizes of 1, 2, 3, ... passes, from the whole share down to one sequence; at most 4096."""
    passes = 1
    while True:
        micro = ceil_div(share, passes)
        if micro <= 4096:
            yield micro
        if micro == 1:
            return
        passes = ceil_div(share, micro - 1)


def _fit(p: ParallelismSpec, case: Case, micro: int) -> Fit:
    tensor = p.tensor_parallel or 1
    data = p.hosts * p.devices_per_host // tensor
    shard = p.shard or data
    layout = LayoutPlan(
        hosts=p.hosts,
        devices_per_host=p.devices_per_host,
        device=p.device,
        device_model=device_model(p),
        tensor_parallel=tensor,
        shard=shard,
        replicate=data // shard,
        micro_batch_sequences=micro,
        accumulation=ceil_div(ceil_div(case.batch_sequences, data), micro),
        activation_checkpointing=p.activation_checkpointing,
        reshard_after_forward=None if p.reshard_after_forward else False,
        compile=p.compile,
        engine=p.engine,
    )
    return fit_of(layout, case)


def fit_of(layout: LayoutPlan, case: Case) -> Fit:
    """What a layout needs and has."""
    needed = memory(case.architecture, layout, case.compute, case.sequence_length)
    return Fit(layout, needed, available(layout, case))


def copies_per_host(layout: LayoutPlan, a: Architecture) -> int:
    """Bytes of the memory tier on one host: its workers' state, and a partner's where there is another host."""
    own = ceil_div(worker_parameters(a, layout.tensor_parallel), layout.shard) * (MASTER + MOMENTS)
    return own * layout.devices_per_host * (2 if layout.hosts > 1 else 1)


def available(layout: LayoutPlan, case: Case) -> int:
    """Bytes one device offers: a GPU's memory, or a worker's part of its pod's memory less the agent's."""
    if layout.device == "cuda":
        return device_memory(layout.device_model)
    agent = AGENT_BYTES + (copies_per_host(layout, case.architecture) if case.memory_tier else 0)
    return max(0, bytes_of(case.pod_memory) - agent) // layout.devices_per_host


def nearest(p: ParallelismSpec, case: Case) -> Near | None:
    """The fitting layout with the fewest changed fields; among those the one that costs least.

    Cost goes by the most expensive field first: fewest hosts, then the narrowest tensor-parallel group, the least
    recomputation, sharding as it is, a larger pod (cpu), smaller passes, weights gathered twice.
    """
    options = _options(p, case)
    for changed in range(1, len(options) + 1):
        found = (_try(p, case, update) for update in _updates(options, changed))
        near = next((near for near in found if near is not None), None)
        if near is not None:
            return near
    return None


def _updates(options: list[Option], changed: int) -> list[dict[str, object]]:
    """Every way to change so many fields, cheapest first."""
    chosen = itertools.combinations(options, changed)
    ways = [
        tuple((option.field, place) for option, place in zip(fields, places, strict=True))
        for fields in chosen
        for places in itertools.product(*(range(len(option.values)) for option in fields))
    ]
    rank = {option.field: number for number, option in enumerate(options)}
    values = {option.field: option.values for option in options}

    def cost(way: tuple[tuple[str, int], ...]) -> list[int]:
        places = [0] * len(options)
        for field, place in way:
            places[rank[field]] = place + 1
        return places[::-1]

    return [{field: values[field][place] for field, place in way} for way in sorted(ways, key=cost)]


def _options(p: ParallelismSpec, case: Case) -> list[Option]:
    """Other values of each field; cheapest fields, and cheapest values, first."""
    order: list[ActivationCheckpointing] = ["none", "selective", "full"]
    widths = [t for t in (2, 4, 8, 16, 32, 64) if t > (p.tensor_parallel or 1) and p.devices_per_host % t == 0]
    hosts = [p.hosts * factor for factor in (2, 4, 8, 16, 32, 64, 128, 256) if p.hosts * factor <= 16384]
    options = [
        Option("reshard_after_forward", [] if p.reshard_after_forward else [True]),
        Option("micro_batch_sequences", [None] if p.micro_batch_sequences else []),
        Option("pod_memory", [_larger_pod(p, case)] if p.device == "cpu" else []),
        Option("shard", [None] if p.shard else []),
        Option("activation_checkpointing", list(order[order.index(p.activation_checkpointing) + 1 :])),
        Option("tensor_parallel", list(widths)),
        Option("hosts", list(hosts)),
    ]
    return [option for option in options if option.values]


def _larger_pod(p: ParallelismSpec, case: Case) -> str:
    """Pod memory with which the layout as it stands fits with one sequence per pass."""
    fit = _fit(p, case, p.micro_batch_sequences or 1)
    agent = AGENT_BYTES + (copies_per_host(fit.layout, case.architecture) if case.memory_tier else 0)
    return binary_quantity(fit.needed.total * fit.layout.devices_per_host + agent)


_PATHS = {
    "pod_memory": "spec.pods.resources.memory",
    "micro_batch_sequences": "spec.parallelism.microBatchSequences",
    "reshard_after_forward": "spec.parallelism.reshardAfterForward",
    "activation_checkpointing": "spec.parallelism.activationCheckpointing",
    "tensor_parallel": "spec.parallelism.tensorParallel",
    "shard": "spec.parallelism.shard",
    "hosts": "spec.parallelism.hosts",
}


def _try(p: ParallelismSpec, case: Case, update: dict[str, object]) -> Near | None:
    pod_memory = update.get("pod_memory", case.pod_memory)
    changed_case = replace(case, pod_memory=str(pod_memory))
    changed = p.model_copy(update={name: value for name, value in update.items() if name != "pod_memory"})
    if not divides(changed, changed_case):
        return None
    fit = lay_out(changed, changed_case)
    if not fit.fits:
        return None
    before = {name: case.pod_memory if name == "pod_memory" else getattr(p, name) for name in update}
    return Near(tuple((_PATHS[name], _shown(before[name]), _shown(value)) for name, value in update.items()), fit)


def _shown(value: object) -> str:
    if value is None:
        return "absent"
    return str(value).lower() if isinstance(value, bool) else str(value)
