"""The plan of the paper's run, to the byte. A change of it is a change of every run that is under way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opt_api.documents.plan import Plan
from opt_api.estimate.estimate import estimate
from opt_api.parsing import parse
from opt_api.resolve import resolve
from opt_api.resources import OPTTraining

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "plans" / "opt-175b.json"
RENEW = f"if it is meant: optctl plan examples/opt-175b.yaml --json > {GOLDEN.relative_to(ROOT)}"


@pytest.fixture(scope="module")
def made() -> OPTTraining:
    training = parse((ROOT / "examples" / "opt-175b.yaml").read_text())
    assert isinstance(training, OPTTraining)
    return training


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text())


def test_the_plan_is_the_golden_one(made, golden):
    plan = resolve(made)
    assert plan.wire() == golden["plan"], RENEW
    assert plan.digest() == golden["digest"], RENEW
    assert Plan.model_validate(golden["plan"]).digest() == golden["digest"]


def test_the_estimate_is_the_golden_one(made, golden):
    found = estimate(made, resolve(made)).wire()
    assert flat(found) == pytest.approx(flat(golden["estimate"]), rel=1e-12), RENEW


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves by path, numbers as they are and other values as their hash-free text."""
    if isinstance(value, dict):
        return {key: leaf for name, part in value.items() for key, leaf in flat(part, f"{path}.{name}").items()}
    if isinstance(value, list):
        return {key: leaf for at, part in enumerate(value) for key, leaf in flat(part, f"{path}[{at}]").items()}
    return {path: value} if isinstance(value, int | float) else {f"{path}={value}": 0}


def test_the_run_is_the_papers(golden):
    plan = golden["plan"]
    recipe, layout, architecture = plan["recipe"], plan["layout"], plan["architecture"]
    assert (recipe["totalSteps"], recipe["warmupSteps"], recipe["batchSequences"]) == (143_051, 2000, 1024)
    assert (recipe["peakLearningRate"], recipe["beta1"], recipe["beta2"], recipe["weightDecay"]) == (
        1.2e-4,
        0.9,
        0.95,
        0.1,
    )
    assert (layout["hosts"], layout["devicesPerHost"], layout["tensorParallel"]) == (124, 8, 8)
    assert (architecture["layers"], architecture["heads"], architecture["hiddenSize"]) == (96, 96, 12288)
    assert plan["precision"] == {"compute": "float16", "lossScale": {"initial": 4.0, "window": 256, "floor": 2**-5}}
