"""A training small enough for a test of minutes: real text, two hosts, 600 steps."""

from __future__ import annotations

from typing import Any

SPEC: dict[str, Any] = {
    "apiVersion": "opt-operator.io/v1alpha1",
    "kind": "OPTTraining",
    "metadata": {"name": "small"},
    "spec": {
        "model": {"preset": "custom", "layers": 2, "heads": 2, "hiddenSize": 32, "maxPositions": 32},
        "data": {
            "sources": [{"name": "licences", "uri": "file:///usr/share/common-licenses", "format": "text"}],
            "tokenizer": {"train": {"vocabularySize": 512, "sampleBytes": 1_000_000}},
            "sequenceLength": 32,
            "validation": {"fraction": 0.1},
        },
        "optimisation": {
            "learningRate": 1e-3, "batchTokens": 256, "totalTokens": 256 * 600, "warmupTokens": 2560
        },
        "parallelism": {"hosts": 2, "device": "cpu"},
        "precision": {"compute": "float32"},
        "checkpointing": {"interval": {"steps": 50}},
        "evaluation": {"intervalSteps": 300, "maxBatches": 2},
        "pods": {"resources": {"memory": "2Gi", "sharedMemory": "64Mi"}},
    },
}  # fmt: skip
