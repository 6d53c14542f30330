"""Plans for tests, through the same resolution as any other."""

from __future__ import annotations

from typing import Any

from opt_api.documents.plan import Plan
from opt_api.resolve import resolve
from opt_api.resources import OPTTraining

BATCH, SEQUENCE = 8, 16


def tiny_spec(**changed: Any) -> dict[str, Any]:
    """A spec of a two-block model on the CPU, float32, no dropout; `changed` replaces whole sections' fields."""
    spec: dict[str, Any] = {
        "model": {
            "preset": "custom",
            "layers": 2,
            "heads": 4,
            "hiddenSize": 32,
            "ffnSize": 64,
            "vocabularySize": 96,
            "maxPositions": 32,
            "dropout": 0.0,
            "attentionDropout": 0.0,
            "initStd": 0.1,
        },
        "data": {"dataset": "file:///data/manifest.json", "sequenceLength": SEQUENCE},
        "optimisation": {
            "learningRate": 0.01,
            "batchTokens": BATCH * SEQUENCE,
            "totalTokens": 100 * BATCH * SEQUENCE,
            "warmupTokens": 10 * BATCH * SEQUENCE,
        },
        "parallelism": {"device": "cpu"},
        "precision": {"compute": "float32"},
        "pods": {"resources": {"memory": "8Gi"}},
        "storage": {"volume": {"claimName": "runs"}},
    }
    for section, fields in changed.items():
        spec[section] = {**spec.get(section, {}), **fields}
    return spec


def tiny_plan(**changed: Any) -> Plan:
    """The plan of `tiny_spec`."""
    document = {
        "apiVersion": "opt-operator.io/v1alpha1",
        "kind": "OPTTraining",
        "metadata": {"name": "tiny", "namespace": "default"},
        "spec": tiny_spec(**changed),
    }
    return resolve(OPTTraining.model_validate(document))
