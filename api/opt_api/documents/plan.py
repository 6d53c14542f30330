"""The plan: a training's spec resolved to the last number. What every worker gets, in a pod and on a laptop."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from opt_api.architecture import Architecture
from opt_api.base import Model, changes
from opt_api.documents.base import Document
from opt_api.storage import StorageSpec
from opt_api.training.checkpointing import Retention
from opt_api.training.data import BatchRange, DataSpec
from opt_api.training.optimisation import LossScale
from opt_api.training.parallelism import ActivationCheckpointing, Device, DeviceModel, Engine, NumberFormat
from opt_api.training.resilience import ResilienceSpec
from opt_api.training.spec import EnergySpec, Until
from opt_api.types import Count, Digest, Fraction, LongCount, LongWhole, NonNegative, Positive, Subdomain, Whole


class RecipePlan(Model):
    """The optimiser's numbers, all of them."""

    peak_learning_rate: Positive = changes("step")
    min_learning_rate: NonNegative = changes("step")
    warmup_steps: LongWhole
    """Optimiser steps of the linear warm-up."""
    total_steps: LongCount
    """Optimiser steps of the run, and the end of the linear decay."""
    batch_sequences: Count
    """Sequences of one optimiser step over all workers."""
    beta1: NonNegative
    beta2: NonNegative
    epsilon: Positive
    weight_decay: NonNegative
    clip: Positive = changes("step")
    seed: Whole


class LayoutPlan(Model):
    """The gang: world size = hosts x devices per host = replicate x shard x tensor parallel."""

    hosts: Count
    devices_per_host: Count
    device: Device
    device_model: DeviceModel
    tensor_parallel: Count
    shard: Count
    replicate: Count
    micro_batch_sequences: Count
    """Most sequences of one forward pass on one worker."""
    accumulation: Count
    """Forward passes per optimiser step, the same on every worker: micro batch x accumulation covers its share."""
    activation_checkpointing: ActivationCheckpointing
    reshard_after_forward: bool | None = None
    """False where FSDP gathers weights once a step. Absent otherwise, as in plans from before there was a choice: their
    digests stay what they are."""
    compile: bool
    engine: Engine

    @property
    def world_size(self) -> int:
        """Workers of the gang."""
        return self.hosts * self.devices_per_host

    @property
    def gathers_again(self) -> bool:
        """Whether FSDP gathers a block's weights for the backward pass as well."""
        return self.reshard_after_forward is not False

    @property
    def data_parallel(self) -> int:
        """Workers that see different sequences."""
        return self.world_size // self.tensor_parallel


def spread(numbers: range, places: int) -> tuple[range, ...]:
    """A run of numbers dealt in order to `places`; their shares differ by one at most."""
    first, count = numbers.start, len(numbers)
    edges = [first + count * place // places for place in range(places + 1)]
    return tuple(range(start, end) for start, end in itertools.pairwise(edges))


class PrecisionPlan(Model):
    """Number formats in use."""

    compute: NumberFormat
    loss_scale: LossScale | None = None
    """Present with float16 only."""


class CheckpointPlan(Model):
    """When to save and what to keep."""

    interval_steps: LongCount | None = None
    interval_seconds: Count | None = None
    """Exactly one of the two is set; Young and Daly's number when the spec names neither."""
    automatic: bool = False
    """The interval came from the formula and is measured anew while running."""
    assumed_stall_seconds: Positive
    assumed_hours_between_faults: Positive
    """What the formula was given: the stall of one save and the mean time between faults."""
    memory_interval_steps: Count
    memory_tier: bool
    retention: Retention
    pinned: tuple[LongCount, ...] = ()
    export: bool
    export_every_steps: LongCount | None = None
    upload_concurrency: Count


class EvaluationPlan(Model):
    """When validation runs."""

    interval_steps: LongCount
    max_batches: Count


class Plan(Document):
    """A training's spec resolved to the last number; deterministic, named by its digests."""

    file_name: ClassVar[str] = "plan.json"

    kind: Literal["Plan"] = "Plan"
    version: Literal[1] = 1
    name: Subdomain
    namespace: Subdomain
    identity: Digest
    """Digest of the identity fields alone: the same run however its gang is laid out."""
    architecture: Architecture
    sequence_length: Count
    data: DataSpec
    recipe: RecipePlan
    layout: LayoutPlan
    precision: PrecisionPlan
    checkpointing: CheckpointPlan
    resilience: ResilienceSpec
    evaluation: EvaluationPlan
    energy: EnergySpec
    storage: StorageSpec | None = None
    until: Until
    skip_batches: Annotated[tuple[BatchRange, ...], Field(max_length=256)] = ()
    min_learning_rate_ratio: Fraction

    @cached_property
    def canonical(self) -> bytes:
        """Canonical JSON: asked for many times of a plan that never changes."""
        return super().to_bytes()

    def to_bytes(self) -> bytes:
        """Canonical JSON of the plan."""
        return self.canonical

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, which does not take over what was worked out of the original."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("canonical", None)
        return copied

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimiser step."""
        return self.recipe.batch_sequences * self.sequence_length

    def share(self, data_rank: int) -> range:
        """Places within each batch that one data-parallel worker computes.

        The batch is dealt in order, so every gang size sees the same batches; shares differ by one sequence at most.
        A worker's loss is the sum over its tokens divided by the tokens of the whole batch; summed over workers this
        is the batch's mean, however uneven the shares.
        """
        return spread(range(self.recipe.batch_sequences), self.layout.data_parallel)[data_rank]

    def micro_batches(self, data_rank: int) -> tuple[range, ...]:
        """A worker's share cut into `accumulation` forward passes, sizes differing by at most one.

        A pass may be empty on a worker whose share is the smaller one; it still takes part in every collective.
        """
        return spread(self.share(data_rank), self.layout.accumulation)
