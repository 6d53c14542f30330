"""For each rule of the models a way to break it, and nothing else, from the complete documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from opt_api.base import Rule
from opt_api.resources import KINDS
from opt_api.shapes import Shape, shape_of
from support.specs import REMOVED, Case

Key = tuple[str, str, str]
"""Kind of resource, place of the model, field of the rule."""

_POD_RULES: dict[tuple[str, str], dict[str, Any]] = {
    ("pods", "labels"): {"pods.labels": {"opt-operator.io/role": "trainer"}},
    ("pods.tolerations.0", "value"): {"pods.tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
    ("pods.tolerations.0", "key"): {"pods.tolerations": [{"operator": "Equal", "value": "b"}]},
    ("pods.env.0", "name"): {"pods.env": [{"name": "PYTHONPATH", "value": "/"}]},
    ("storage", "s3"): {"storage": {}},
}
_TRAINING: dict[tuple[str, str], dict[str, Any]] = {
    ("", "model.maxPositions"): {"model.maxPositions": 64, "data.sequenceLength": 65},
    ("", "resilience.minHosts"): {"resilience.minHosts": 9, "parallelism.hosts": 8},
    ("", "parallelism.shard"): {"parallelism.shard": 3, "parallelism.hosts": 4, "parallelism.devicesPerHost": 8},
    ("", "precision.compute"): {"precision.compute": "float16", "parallelism.device": "cpu"},
    ("", "data.tokenizer.train.vocabularySize"): {
        "model.vocabularySize": 512,
        "data.tokenizer": {"train": {"vocabularySize": 1024}},
    },
    ("model", "preset"): {"model": {"preset": "custom", "layers": 2, "heads": 2}},
    ("model", "heads"): {"model": {"preset": "custom", "layers": 2, "heads": 3, "hiddenSize": 64}},
    ("data", "sources"): {"data.sources": [{"name": "a", "uri": "file:///text"}]},
    ("data", "tokenizer"): {
        "data.dataset": REMOVED,
        "data.tokenizer": REMOVED,
        "data.sources": [{"name": "a", "uri": "file:///text"}],
    },
    ("data.tokenizer", "files"): {"data.tokenizer": {}},
    ("data.skipBatches.0", "last"): {"data.skipBatches": [{"first": 5, "last": 4}]},
    ("parallelism", "tensorParallel"): {"parallelism": {"tensorParallel": 2, "devicesPerHost": 3}},
    ("precision.lossScale", "floor"): {"precision.lossScale": {"initial": 1, "floor": 2}},
    ("checkpointing.interval", "steps"): {"checkpointing.interval": {"steps": 10, "seconds": 10}},
}
_SERVE: dict[tuple[str, str], dict[str, Any]] = {
    ("source", "training"): {"source.uri": "s3://bucket/model"},
    ("source.training", "step"): {"source.training": {"name": "run", "checkpoint": "step"}},
    ("engine", "tensorParallel"): {"engine": {"name": "vllm", "tensorParallel": 2, "devicesPerReplica": 3}},
    ("engine", "devicesPerReplica"): {"engine": {"devicesPerReplica": 2}},
    ("engine", "hostsPerReplica"): {
        "engine": {"name": "vllm", "tensorParallel": 1, "devicesPerReplica": 3, "hostsPerReplica": 2}
    },
    ("engine", "weights"): {"engine": {"name": "vllm", "weights": "int8"}},
    ("autoscaling", "maxReplicas"): {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}},
}
_BROKEN = {"OPTTraining": _TRAINING | _POD_RULES, "OPTServe": _SERVE | _POD_RULES}


def broken() -> dict[Key, list[Case]]:
    """The changes that break each rule."""
    return {
        (kind, place, field): [_case(path, value) for path, value in values.items()]
        for kind, table in _BROKEN.items()
        for (place, field), values in table.items()
    }


def rules() -> dict[Key, Rule]:
    """Every rule there is."""
    found: dict[Key, Rule] = {}
    for kind, model in KINDS.items():
        for place, rule in _rules(shape_of(model).properties["spec"], ()):
            found[kind, ".".join(place), rule.field] = rule
    return found


def _case(path: str, value: Any) -> Case:
    place = tuple(int(step) if step.isdigit() else step for step in ("spec", *path.split(".")))
    return Case(place, value, "breaks a rule")


def _rules(shape: Shape, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Rule]]:
    for rule in shape.rules:
        yield place, rule
    if shape.items:
        yield from _rules(shape.items, (*place, "0"))
    for name, part in shape.properties.items():
        yield from _rules(part, (*place, name))
