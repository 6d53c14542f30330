"""The specification of an `OPTServe`: which model is served, how, and how it follows a training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from opt_api.base import Model, Rule, changes, exactly_one
from opt_api.pods import PodSpec
from opt_api.storage import StorageSpec
from opt_api.training.parallelism import Device
from opt_api.types import Count, Fraction, LongCount, ObjectName, SourceUri, Subdomain, Whole


class TrainingSource(Model):
    """A training of the same namespace. Only Verified checkpoints are served."""

    name: ObjectName
    checkpoint: Literal["latest", "best", "step"] = "latest"
    step: LongCount | None = None
    min_age_seconds: Whole = 0
    """Leave a checkpoint alone until it is this old."""

    rules = (
        Rule(
            "step",
            "must be set exactly when checkpoint is step",
            "(self.checkpoint == 'step') == has(self.step)",
            lambda t: (t.checkpoint == "step") == (t.step is not None),
        ),
    )


class ServeSource(Model):
    """Where the weights come from."""

    training: TrainingSource | None = None
    uri: SourceUri | None = None
    """A Hugging Face OPT directory with safetensors, by `file://` or `s3://`."""

    rules = (exactly_one("training", "uri"),)


class EngineSpec(Model):
    """The inference engine of one replica."""

    name: Literal["native", "vllm"] = "native"
    device: Device = "cuda"
    weights: Literal["float32", "bfloat16", "float16", "int8"] = "bfloat16"
    tensor_parallel: Annotated[Count, Field(le=64)] = 1
    """Devices, or on a CPU processes, that share one copy of the model."""
    devices_per_replica: Annotated[Count, Field(le=64)] = 1
    """On all its hosts together."""
    hosts_per_replica: Annotated[Count, Field(le=16)] = 1
    """Pods that hold one copy of the model together, as a LeaderWorkerSet, which the cluster must have; vllm only. With
    more than one, pipeline stages are as many as devicesPerReplica is a multiple of tensorParallel."""
    max_sequences: Annotated[Count, Field(le=4096)] = 64
    """Requests decoded together."""
    max_sequence_length: Annotated[Count, Field(le=131072)] | None = None
    """The model's positions when absent."""
    kv_cache_bytes: LongCount | None = None
    """Room for keys and values; what the device has left when absent."""
    kv_cache_pretouch: bool = False
    """On a CPU, take memory for all of that room soon after the start, while no request waits, and not in the middle of
    a burst. A pod whose limit is too low ends then; vllm always does so."""
    prefill_chunk_tokens: Annotated[Count, Field(ge=16, le=65536)] = 2048
    """Tokens of prompts in one pass, at most."""
    prefill_chunk_seconds: Annotated[float, Field(gt=0, le=3600)] = 0.75
    """While others decode, no more tokens of prompts than take this long: their next tokens wait for it. Longer passes
    do a little more in all, shorter ones are steadier. For the native engine."""

    rules = (
        Rule(
            "tensorParallel",
            "must divide devicesPerReplica",
            "self.devicesPerReplica % self.tensorParallel == 0",
            lambda e: e.devices_per_replica % e.tensor_parallel == 0,
        ),
        Rule(
            "devicesPerReplica",
            "must equal tensorParallel for the native engine, which holds one copy of the model in a replica",
            "self.name == 'vllm' || self.devicesPerReplica == self.tensorParallel",
            lambda e: e.name == "vllm" or e.devices_per_replica == e.tensor_parallel,
        ),
        Rule(
            "hostsPerReplica",
            "must be 1 for the native engine, and divide devicesPerReplica for vllm",
            "self.hostsPerReplica == 1 || (self.name == 'vllm' && self.devicesPerReplica % self.hostsPerReplica == 0)",
            lambda e: (
                e.hosts_per_replica == 1 or (e.name == "vllm" and e.devices_per_replica % e.hosts_per_replica == 0)
            ),
        ),
        Rule(
            "weights",
            "int8 is for the native engine",
            "self.name == 'native' || self.weights != 'int8'",
            lambda e: e.name == "native" or e.weights != "int8",
        ),
    )


class LimitsSpec(Model):
    """What one replica accepts; beyond it a client gets 429 or 503 with Retry-After."""

    max_queue: Annotated[Count, Field(le=100_000)] = 256
    max_body_bytes: LongCount = 4_194_304
    deadline_seconds: Annotated[Count, Field(le=86_400)] = 300
    max_prompts: Annotated[Count, Field(le=10_000)] = 128
    """Prompts of one request."""


class AutoscalingSpec(Model):
    """Replicas by requests in flight, from our own metrics."""

    min_replicas: Annotated[Whole, Field(le=1000)] = 1
    """0 scales to zero; the gateway holds requests while a replica starts."""
    max_replicas: Annotated[Count, Field(le=1000)] = 4
    target_in_flight: Annotated[Count, Field(le=100_000)] = 16
    """Requests in flight per replica."""
    scale_down_delay_seconds: Annotated[Whole, Field(le=86_400)] = 300

    rules = (
        Rule(
            "maxReplicas",
            "must not be below minReplicas",
            "self.maxReplicas >= self.minReplicas",
            lambda a: a.max_replicas >= a.min_replicas,
        ),
    )


class GateSpec(Model):
    """What a new checkpoint must pass before it gets traffic."""

    enabled: bool = True
    max_loss_increase_ratio: Fraction = 0.05
    """Loss on the held-out shard over the served model's, minus one."""
    sequences: Annotated[Count, Field(le=4096)] = 32


class RolloutSpec(Model):
    """How traffic moves to a newer checkpoint."""

    follow: bool = True
    """Roll to newer checkpoints by itself; false keeps the one being served."""
    gate: GateSpec = Field(default_factory=GateSpec)
    max_surge: Annotated[Count, Field(le=100)] = 1
    canary_percent: Annotated[Whole, Field(le=100)] = 0
    """Share of traffic a new checkpoint gets before the rest follows; 0 for no canary step."""
    canary_seconds: Annotated[Whole, Field(le=604_800)] = 60
    max_error_ratio: Fraction = 0.02
    """Above this share of failed requests a roll goes back by itself."""
    drain_seconds: Annotated[Count, Field(le=86_400)] = 300
    """How long open streams may take to end."""
    history: Annotated[Count, Field(le=20)] = 2
    """Earlier checkpoints kept ready for going back."""


class AccessSpec(Model):
    """Who may call."""

    api_keys_secret: Subdomain | None = None
    """Secret with a key `keys`, one API key a line; open when absent."""
    chat_template_config_map: Subdomain | None = None
    """ConfigMap with a key `template`; chat answers 400 with a reason when absent."""


class OPTServeSpec(Model):
    """A served model that follows its training."""

    source: ServeSource
    model_name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")] | None = (
        None
    )
    """Name in the API; the resource's when absent."""
    engine: EngineSpec = Field(default_factory=EngineSpec)
    replicas: Annotated[Whole, Field(le=1000)] = changes("now", default=1)
    """Number of replicas; the target of the scale subresource. Steered by `autoscaling` where that is set."""
    autoscaling: AutoscalingSpec | None = changes("now", default=None)
    limits: LimitsSpec = Field(default_factory=LimitsSpec)
    rollout: RolloutSpec = changes("now", default_factory=RolloutSpec)
    access: AccessSpec = Field(default_factory=AccessSpec)
    storage: StorageSpec | None = None
    """Needed for an s3 URI; a training's own storage otherwise."""
    pods: PodSpec = Field(default_factory=PodSpec)
