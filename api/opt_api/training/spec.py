"""The whole specification of an `OPTTraining`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from opt_api.base import Model, Rule, changes
from opt_api.pods import PodSpec
from opt_api.storage import StorageSpec
from opt_api.training.checkpointing import CheckpointSpec
from opt_api.training.data import DataSpec
from opt_api.training.model import ModelSpec
from opt_api.training.optimisation import OptimisationSpec
from opt_api.training.parallelism import ParallelismSpec, PrecisionSpec
from opt_api.training.resilience import ResilienceSpec
from opt_api.types import Count, LongCount, LongWhole, NonNegative, Positive, Subdomain

Until = Literal["Data", "Training", "Evaluation"]


class EvaluationSpec(Model):
    """Validation loss per source, at intervals and at the end."""

    interval_steps: LongCount | None = None
    """Steps between validations; 2000, the released code's number, when absent."""
    max_batches: Count = 64
    """Batches per source and validation."""


class EnergySpec(Model):
    """Assumptions of the energy and carbon figures; each is printed beside the figure."""

    device_watts: Positive | None = None
    """Mean power of one device; the chip's rated power when absent, and the figure then says so."""
    host_watts: NonNegative = 0
    """Mean power of a host without its devices."""
    pue: Annotated[float, Field(ge=1, le=10)] = 1.1
    """Facility power over machine power."""
    grams_co2_per_kwh: Annotated[float, Field(ge=0, le=2000)] = 231
    """Carbon intensity of the grid (the paper's 75 t imply 231)."""


class QueueSpec(Model):
    """How the gang queues for room."""

    queue_name: Subdomain | None = None
    """Kueue LocalQueue."""
    priority_class: Subdomain | None = None
    scheduler_gang: Literal["auto", "none"] = "auto"
    """`auto` uses the scheduler's own gang API, Volcano or Kueue, whichever the cluster has."""


class OPTTrainingSpec(Model):
    """From raw text to a trained, evaluated model."""

    model: ModelSpec
    data: DataSpec
    optimisation: OptimisationSpec = Field(default_factory=OptimisationSpec)
    parallelism: ParallelismSpec = changes("attempt", default_factory=ParallelismSpec)
    precision: PrecisionSpec = Field(default_factory=PrecisionSpec)
    checkpointing: CheckpointSpec = changes("step", default_factory=CheckpointSpec)
    resilience: ResilienceSpec = changes("step", default_factory=ResilienceSpec)
    evaluation: EvaluationSpec = changes("attempt", default_factory=EvaluationSpec)
    energy: EnergySpec = changes("step", default_factory=EnergySpec)
    storage: StorageSpec | None = None
    """Needed in a cluster; a local run uses a folder when absent."""
    queueing: QueueSpec = changes("attempt", default_factory=QueueSpec)
    suspend: bool = changes("step", default=False)
    """Save, stop and give the hosts back until it is false again."""
    until: Until = changes("attempt", default="Evaluation")
    """Last stage to run; `Data` makes the resource a data preparation job."""
    pods: PodSpec = changes("attempt", default_factory=PodSpec)
    ttl_seconds_after_finished: Annotated[LongWhole, Field(le=31_536_000)] | None = changes("step", default=None)
    """Delete the resource this long after it finished; what it left in the store stays."""

    rules = (
        Rule(
            "model.maxPositions",
            "must be at least data.sequenceLength",
            "!has(self.model.maxPositions) || self.model.maxPositions >= self.data.sequenceLength",
            lambda s: s.model.max_positions is None or s.model.max_positions >= s.data.sequence_length,
        ),
        Rule(
            "resilience.minHosts",
            "must not exceed parallelism.hosts",
            "!has(self.resilience.minHosts) || self.resilience.minHosts <= self.parallelism.hosts",
            lambda s: s.resilience.min_hosts is None or s.resilience.min_hosts <= s.parallelism.hosts,
        ),
        Rule(
            "parallelism.shard",
            "times tensorParallel must divide hosts x devicesPerHost",
            "!has(self.parallelism.shard) || (self.parallelism.hosts * self.parallelism.devicesPerHost) % "
            "(self.parallelism.shard * "
            "(has(self.parallelism.tensorParallel) ? self.parallelism.tensorParallel : 1)) == 0",
            lambda s: (
                s.parallelism.shard is None
                or (s.parallelism.hosts * s.parallelism.devices_per_host)
                % (s.parallelism.shard * (s.parallelism.tensor_parallel or 1))
                == 0
            ),
        ),
        Rule(
            "precision.compute",
            "float16 is for cuda devices",
            "self.precision.compute != 'float16' || self.parallelism.device == 'cuda'",
            lambda s: s.precision.compute != "float16" or s.parallelism.device == "cuda",
        ),
        Rule(
            "data.tokenizer.train.vocabularySize",
            "must equal model.vocabularySize where both are given",
            "!has(self.model.vocabularySize) || !has(self.data.tokenizer) || !has(self.data.tokenizer.train) || "
            "self.model.vocabularySize == self.data.tokenizer.train.vocabularySize",
            lambda s: (
                s.model.vocabulary_size is None
                or s.data.tokenizer is None
                or s.data.tokenizer.train is None
                or s.model.vocabulary_size == s.data.tokenizer.train.vocabulary_size
            ),
        ),
    )
