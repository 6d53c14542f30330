"""The memory estimate against the peak of a process that really trains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from opt_api.estimate.layouts import case_of, fit_of
from opt_api.resolve import resolve
from support.trainings import training

pytestmark = pytest.mark.integration

PROGRAM = Path(__file__).parents[1] / "support" / "peak_memory.py"
SPEC = {
    "model": {"preset": "custom", "layers": 6, "heads": 8, "hiddenSize": 384, "vocabularySize": 8192},
    "data": {"dataset": "s3://corpus/manifest.json", "sequenceLength": 256},
    "optimisation": {"learningRate": 1e-3, "batchTokens": 1024, "totalTokens": 204800, "warmupTokens": 2048},
    "precision": {"compute": "float32"},
    "pods": {"resources": {"memory": "8Gi"}},
}


@pytest.mark.parametrize("mode", ["none", "full"])
def test_the_peak_of_real_steps_stays_within_the_estimate_and_near_it(mode):
    made = training(**SPEC, parallelism={"device": "cpu", "activationCheckpointing": mode})
    plan = resolve(made)
    done = subprocess.run([sys.executable, str(PROGRAM)], input=plan.to_bytes(), capture_output=True, check=True)
    peak, of_files = map(int, done.stdout.split())
    estimated = fit_of(plan.layout, case_of(plan, made.spec.pods.resources.memory)).needed.total
    print(f"{peak / 1e6:.0f} MB measured ({of_files / 1e6:.0f} of files), {estimated / 1e6:.0f} MB estimated")
    assert 0.7 * estimated < peak
    assert peak - of_files <= estimated
