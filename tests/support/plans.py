"""A small complete plan, any part of it replaced."""

from __future__ import annotations

from typing import Any

from opt_api.architecture import Architecture
from opt_api.documents.plan import CheckpointPlan, EvaluationPlan, LayoutPlan, Plan, PrecisionPlan, RecipePlan
from opt_api.training.checkpointing import Retention
from opt_api.training.data import DataSpec
from opt_api.training.resilience import ResilienceSpec
from opt_api.training.spec import EnergySpec


def tiny_plan(sequence_length: int = 16, parts: dict[str, Any] | None = None, **architecture: Any) -> Plan:
    """Two layers, two heads, width 16; one CPU process; `parts` replaces whole parts of the plan."""
    shape = {"layers": 2, "heads": 2, "hidden_size": 16, "ffn_size": 64, "embedding_size": 16, "vocabulary_size": 1000}
    values: dict[str, Any] = {
        "name": "tiny",
        "namespace": "default",
        "identity": "sha256:" + "0" * 64,
        "architecture": Architecture(**(shape | {"max_positions": 64} | architecture)),
        "sequence_length": sequence_length,
        "data": DataSpec(dataset="file:///data/manifest.json", sequence_length=sequence_length),
        "recipe": RecipePlan(
            peak_learning_rate=1e-3,
            min_learning_rate=1e-4,
            warmup_steps=2,
            total_steps=20,
            batch_sequences=4,
            beta1=0.9,
            beta2=0.95,
            epsilon=1e-8,
            weight_decay=0.1,
            clip=1.0,
            seed=1,
        ),
        "layout": LayoutPlan(
            hosts=1,
            devices_per_host=1,
            device="cpu",
            device_model="cpu",
            tensor_parallel=1,
            shard=1,
            replicate=1,
            micro_batch_sequences=4,
            accumulation=1,
            activation_checkpointing="none",
            compile=False,
            engine="native",
        ),
        "precision": PrecisionPlan(compute="float32"),
        "checkpointing": CheckpointPlan(
            interval_steps=5,
            assumed_stall_seconds=0.05,
            assumed_hours_between_faults=12.2,
            memory_interval_steps=1,
            memory_tier=False,
            retention=Retention(),
            export=False,
            upload_concurrency=2,
        ),
        "resilience": ResilienceSpec(),
        "evaluation": EvaluationPlan(interval_steps=10, max_batches=2),
        "energy": EnergySpec(),
        "until": "Training",
        "min_learning_rate_ratio": 0.1,
    }
    return Plan(**(values | (parts or {})))
